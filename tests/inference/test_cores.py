"""Which cores an engine on the CPU computes with."""

import os
from typing import Any

import pytest

from s2d_ray.inference import vllm_arguments
from s2d_ray.recipes.sections import Engine

BIND = "VLLM_CPU_OMP_THREADS_BIND"


@pytest.mark.parametrize(
    ("before", "settings", "bound"),
    [
        (None, {}, "0,1,2"),
        (None, {"tensor_parallel": 2}, "0,2|1"),
        (None, {"pipeline_parallel": 4}, "0|1|2|0,1,2"),
        (None, {"max_engines": 2}, None),
        (None, {"max_engines": 2, "tensor_parallel": 2}, "nobind"),
        (None, {"cpus": 2}, "nobind"),
        # An engine of before in this process had another number of processes.
        ("0,1,2", {"tensor_parallel": 2}, "0,2|1"),
        ("0|1", {}, "0,1,2"),
        # Whoever starts this knows better.
        ("2", {}, "2"),
        ("auto", {"tensor_parallel": 2}, "auto"),
        ("1|2", {"tensor_parallel": 2}, "1|2"),
    ],
)
def test_each_process_of_an_engine_has_cores(
    before: str | None, settings: dict[str, Any], bound: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.delenv(BIND, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    if before is not None:
        monkeypatch.setenv(BIND, before)
    vllm_arguments._deal_out_cores(Engine(**settings))
    found = os.environ.pop(BIND, None)
    assert found == bound
    assert os.environ["OMP_NUM_THREADS"] == ("2" if "cpus" in settings else "9")
