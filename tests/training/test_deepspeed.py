"""What DeepSpeed is told of a recipe's training section."""

from typing import Any

import pytest

from s2d_ray.recipes.sections import Train
from s2d_ray.training.deepspeed import deepspeed_config


def zero(train: dict[str, Any], workers: int = 2, gpu: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = deepspeed_config(Train.model_validate(train), workers, gpu)["zero_optimization"]
    return found


@pytest.mark.parametrize(("workers", "gpu", "overlaps"), [(2, True, True), (1, True, False), (2, False, False)])
def test_communication_is_overlapped_where_there_are_several_gpus(workers: int, gpu: bool, overlaps: bool) -> None:
    assert zero({}, workers, gpu)["overlap_comm"] is overlaps


def test_further_keys_go_before_ours_and_leave_the_others() -> None:
    extra = {"zero_optimization": {"overlap_comm": False, "offload_param": {"pin_memory": False}}, "prescale": True}
    settings = {"zero_stage": 3, "offload": "parameters"}
    ours, both = zero(settings), zero(settings | {"extra": extra})
    assert ours["overlap_comm"]
    changed = {"overlap_comm": False, "offload_param": {"device": "cpu", "pin_memory": False}}
    assert both == ours | changed
    assert deepspeed_config(Train(extra=extra), 1, False)["prescale"] is True
