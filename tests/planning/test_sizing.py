"""The arithmetic of `s2d plan`, against numbers worked out by hand."""

import pytest

from s2d_ray.errors import UserError
from s2d_ray.planning.sizing import (
    Gpu,
    engine_gpus,
    generating_seconds,
    generation_speed,
    training_gpus,
    training_seconds,
)
from s2d_ray.recipes.sections import Train

BILLION = 1e9
H100 = Gpu(tokens_per_second=2000, teraflops=400, memory_gib=80)


def test_generating_takes_the_time_of_each_token_and_of_reading_what_is_not_cached() -> None:
    # 1,000,000 / 2000 s; 2 FLOPs x 70e9 x 4,000,000 tokens = 5.6e17, at 4e14 a second.
    assert generating_seconds(4e6, 1e6, 70 * BILLION, H100) == pytest.approx(500 + 1400)


def test_the_speed_that_was_measured_gives_the_time_that_was_measured() -> None:
    speed = generation_speed(read=4e6, generated=1e6, gpu_seconds=1900, parameters=70 * BILLION, teraflops=400)
    assert speed == pytest.approx(2000)
    with pytest.raises(UserError, match="higher --teraflops"):
        generation_speed(read=4e6, generated=1e6, gpu_seconds=1400, parameters=70 * BILLION, teraflops=400)


def test_training_takes_six_flops_a_parameter_and_token_and_four_with_frozen_weights() -> None:
    # 6 x 8e9 x 1e6 = 4.8e16, at 4e14 a second.
    assert training_seconds(1e6, 8 * BILLION, lora=False, gpu=H100) == pytest.approx(120)
    assert training_seconds(1e6, 8 * BILLION, lora=True, gpu=H100) == pytest.approx(80)


@pytest.mark.parametrize(
    ("parameters", "memory_gib", "gpus"),
    # Room: 60 % of 80 GiB are 51.5 GB, of 24 GiB 15.5 GB; bf16 takes 2 bytes a parameter.
    [(0.135, 80, 1), (8, 80, 1), (25.7, 80, 1), (25.8, 80, 2), (70, 80, 4), (8, 24, 2), (405, 80, 16)],
)
def test_a_copy_of_the_model_is_split_over_a_power_of_two(parameters: float, memory_gib: float, gpus: int) -> None:
    assert engine_gpus(parameters * BILLION, Gpu(1, memory_gib=memory_gib)) == gpus


@pytest.mark.parametrize(
    ("parameters", "zero_stage", "lora", "gpus"),
    [
        (70, 3, False, 22),  # 16 x 70 = 1120 GB over 51.5 GB each
        (70, 3, True, 3),  # 140 GB of frozen weights
        (70, 2, True, None),  # 140 GB on each
        (8, 2, True, 1),
        (8, 2, False, 4),  # 16 GB on each and 112 GB shared out over 35.5 GB each
        (8, 1, False, 5),  # 32 GB and 96 GB over 19.5 GB each
        (8, 0, False, None),  # 128 GB on each
        (1, 0, False, 1),
    ],
)
def test_training_shares_out_what_its_zero_stage_does(
    parameters: float, zero_stage: int, lora: bool, gpus: int | None
) -> None:
    settings = Train.model_validate({"zero_stage": zero_stage} | ({} if lora else {"lora": None}))
    assert training_gpus(parameters * BILLION, settings, H100) == gpus
