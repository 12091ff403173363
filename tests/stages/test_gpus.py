"""A Ray that counts GPUs, under which the real engine computes on the CPU: who asks for how many, and gets them."""

from collections import Counter
from pathlib import Path

import pytest

from s2d_ray.data.files import read_json, read_rows
from tests.gpus import all_gpus_free, watching
from tests.stages.runs import ids, run_here, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.engine]


@pytest.mark.parametrize(
    "engine, gpus",
    [
        pytest.param({"min_engines": 2, "max_engines": 2, "cpus": 1}, 2.0, marks=pytest.mark.long, id="two engines"),
        pytest.param({"tensor_parallel": 2}, 2.0, id="an engine of two GPUs"),
    ],
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


def test_the_whole_pipeline_holds_the_gpus_that_each_stage_asks_for(
    tmp_path: Path, tiny_model: Path, ray_with_gpus: None
) -> None:
    """One for an engine, curation that asks the model and evaluation included, and one for each training worker."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", 16)
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        corpus,
        engine={"dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.05},
        # A random model seldom ends by itself, and the rule passes over what the token limit cut.
        generate={"samples": 2, "commit_rows": 8, "sampling": {"max_tokens": 64, "stop": ["a", "e", "o", "t"]}},
        curate={"rules": ["tests.scripts:UniversalOrFirst"]},
        train={"dtype": "float32", "workers": 2, "batch_size": 2, "steps": 2},
        evaluate={"controls": False, "sampling": {"temperature": 0, "top_p": 1, "max_tokens": 4}},
        method="direct",
    )
    held = {}
    for stage in ("generate", "curate", "train", "evaluate"):
        with watching() as seen:
            base = run_here(recipe, tmp_path, stage)
        held[stage] = max(seen.seen)
        assert all_gpus_free()
    assert held == {"generate": 1, "curate": 1, "train": 2, "evaluate": 1}
    assert any(row["calls"] for row in read_rows(base / "distilled", ["calls"])), "the model was not asked"
    manifest = read_json(base / "model" / "manifest.json")
    assert manifest["steps_by_workers"] == {"2": 2}
    answered = Counter(row["arm"] for row in read_rows(base / "evaluation"))
    assert len(set(answered.values())) == 1
    assert set(answered) == {"base", "teacher", "student"}
