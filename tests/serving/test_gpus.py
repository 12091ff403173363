"""Serving on a Ray that counts GPUs, the real engine computing on the CPU: who holds them, and who answers."""

from pathlib import Path

import pytest
import ray

from tests.gpus import GPUS, all_gpus_free
from tests.inference.test_vllm_engine import make_adapter
from tests.serving.gateways import ask, served_recipe
from tests.serving.test_serve import ADDRESS, deployed

pytestmark = [pytest.mark.ray, pytest.mark.engine]


@pytest.mark.parametrize(
    ("shared", "gpus"),
    [pytest.param(False, 2, marks=pytest.mark.long, id="an engine for each"), pytest.param(True, 1, id="one for both")],
)
def test_engines_hold_a_gpu_each_and_answer(
    shared: bool, gpus: int, tiny_model: Path, tmp_path: Path, ray_with_gpus: None
) -> None:
    adapter, merged = make_adapter(tiny_model, tmp_path)
    recipe = served_recipe(
        engine={"dtype": "float32", "max_model_len": 1024, "kv_cache_gib": 0.05, "cpus": 1},
        # A random model has nothing of use to rewrite.
        method={"name": "direct"},
        evaluate={"sampling": {"temperature": 0, "top_p": 1, "max_tokens": 4}},
        # On GPUs it is what comes of itself where there is an adapter.
        serve={"weights": {"student": 1}} | ({} if shared else {"shared_engine": False}),
    )
    with deployed(recipe, tiny_model, student=merged, adapter=adapter, root=tmp_path):
        assert GPUS - ray.available_resources()["GPU"] == gpus
        for model in ("s2d:student", "s2d:teacher", "s2d:base"):
            assert ask(ADDRESS, model).usage.completion_tokens
    assert all_gpus_free()


def test_engines_whose_groups_of_layers_may_be_apart_hold_all_their_gpus(tmp_path: Path, ray_with_gpus: None) -> None:
    engine = {"kind": "scripted", "script": "tests.scripts:oracle", "device": "gpu", "pipeline_parallel": 2}
    with deployed(served_recipe(engine=engine), tmp_path):
        assert ray.available_resources().get("GPU", 0) == GPUS - 2 * 2
        assert ask(ADDRESS, "s2d:teacher").choices[0].message.content
    assert all_gpus_free()
