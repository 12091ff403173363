"""Tasks of the real lm-eval on the tiny model; skipped where that package is not installed."""

import json
from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.manifests import BenchmarksManifest
from s2d_ray.evaluation.benchmarks import benchmarks
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.runs.resolved import resolve
from s2d_ray.stages.benchmarks import run_benchmarks
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]
DOCUMENTS = 12


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A multiple-choice task of a user's own, over a file here."""
    documents = [{"question": f"Is {n} even?", "choices": ["yes", "no"], "answer": n % 2} for n in range(DOCUMENTS)]
    data = tmp_path / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    task = tmp_path / "even.yaml"
    task.write_text(
        f"""task: even_numbers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
    )
    return task


def test_both_models_are_measured_by_lm_eval(own_task: Path, tiny_model: Path, tmp_path: Path, local_ray: None) -> None:
    pytest.importorskip("lm_eval")
    recipe = Recipe.model_validate(
        {
            "name": "trial",
            "model": str(tiny_model),
            "task": {"name": "coin_flip", "train_items": 4, "valid_items": 1, "test_items": 1},
            "method": "cot",
            "engine": {"dtype": "float32"},
            "evaluate": {"benchmarks": [str(own_task)], "benchmark_limit": 10},
        }
    )
    resolve(recipe)
    before, after = (Model.local(str(seed), make_tiny_model(tmp_path / str(seed), seed)) for seed in (0, 3))
    made = Artifact(tmp_path / "benchmarks", {}, BenchmarksManifest)
    run_benchmarks(recipe, before, after, made)
    [found] = benchmarks(made.manifest.results)
    assert (found.name, found.metric) == ("even_numbers", "acc")
    # Of ten documents, by two random models.
    for score in (found.before, found.after):
        assert (10 * score.value) == pytest.approx(round(10 * score.value))
        assert score.stderr is not None
    assert found.low is not None and found.low <= found.difference
    assert made.manifest.lm_eval
    run_benchmarks(recipe, before, after, made)
