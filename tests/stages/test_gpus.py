"""A Ray that counts GPUs, under which the real engine computes on the CPU: who asks for how many, and gets them."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray

from s2d_ray.data.files import read_json, read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.resolved import resolve
from s2d_ray.stages.cluster import OBJECT_STORE_BYTES, SPARE_SLOTS, joined
from s2d_ray.stages.evaluate import evaluate
from tests.stages.runs import ids, run_here, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.engine]

GPUS = 4


@pytest.fixture(scope="module")
def ray_with_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray that believes in four GPUs."""
    cpus = (os.cpu_count() or 1) + SPARE_SLOTS
    ray.init(
        "local",
        num_cpus=cpus,
        num_gpus=GPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        with joined(tmp_path_factory.mktemp("logs")):
            yield
    finally:
        ray.shutdown()


@dataclass
class Held:
    """GPUs that Ray had given out, as often as looked."""

    seen: set[float] = field(default_factory=set)


@contextmanager
def watching() -> Iterator[Held]:
    held, over = Held(), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            held.seen.add(GPUS - ray.available_resources().get("GPU", 0.0))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def all_gpus_free(seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while ray.available_resources().get("GPU") != GPUS:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize(
    "engine, gpus",
    [
        ({"min_engines": 2, "max_engines": 2, "cpus": 1}, 2.0),
        ({"tensor_parallel": 2}, 2.0),
    ],
    ids=["two engines", "an engine of two GPUs"],
)
def test_generation_holds_the_gpus_that_it_asks_for(
    engine: dict[str, object], gpus: float, tmp_path: Path, tiny_model: Path, ray_with_gpus: None
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 48)
    settings = {"dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.05, **engine}
    sampling = {"max_tokens": 8}
    generate = {"samples": 2, "commit_rows": 4, "concurrent_rows": 8, "sampling": sampling}
    recipe = write_recipe(
        tmp_path, tiny_model, corpus, engine=settings, generate=generate, train={"dtype": "float32"}, method="direct"
    )
    with watching() as held:
        base = run_here(recipe, tmp_path, "generate")
    assert ids(base / "candidates") == ids(base / "prompts")
    assert read_json(base / "candidates" / "manifest.json")["failed"] == 0
    assert max(held.seen) == gpus
    assert all_gpus_free(), "training would wait for what the engines hold"


def test_one_engine_holds_one_gpu_in_generation_in_curation_that_asks_the_model_and_in_evaluation(
    tmp_path: Path, tiny_model: Path, ray_with_gpus: None
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 16)
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        corpus,
        engine={"dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.05},
        # A random model seldom ends by itself, and the rule passes over what the token limit cut.
        generate={"samples": 2, "commit_rows": 8, "sampling": {"max_tokens": 64, "stop": ["a", "e", "o", "t"]}},
        curate={"rules": ["universal"]},
        train={"dtype": "float32"},
        evaluate={"controls": False, "sampling": {"temperature": 0, "top_p": 1, "max_tokens": 4}},
        method="direct",
    )
    with watching() as held:
        base = run_here(recipe, tmp_path, "generate", "curate")
    assert any(row["calls"] for row in read_rows(base / "distilled", ["calls"])), "the model was not asked"
    assert max(held.seen) == 1
    assert all_gpus_free()

    loaded = load_single_recipe(str(recipe))
    [plan] = pipeline.prepare(resolve(loaded), RunFolders(base), ["generate"])
    [part] = plan.parts
    with watching() as held:
        evaluate(part.recipe, part.task, [(plan.base, part.base_arms)], part.evaluation, "evaluate")
    assert max(held.seen) == 1
    answered = Counter(row["arm"] for row in read_rows(part.evaluation.path))
    held_out = part.evaluation.manifest.rows
    assert answered == {"base": held_out, "teacher": held_out}
