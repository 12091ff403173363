"""A run's number format is chosen once, is the same everywhere, and stays."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import INPUTS
from s2d_ray.data.files import read_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.devices import Choice, DType
from s2d_ray.errors import UserError
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Mixture
from s2d_ray.recipes.strict import parse
from s2d_ray.runs import pipeline
from s2d_ray.runs.dtypes import recorded_dtype, with_dtype
from s2d_ray.runs.resolved import resolve
from tests.stages.runs import write_corpus, write_recipe


def chooses(dtype: DType) -> Any:
    return lambda: Choice(dtype, "a CPU", "it is faster")


def never() -> Choice:
    raise AssertionError("chosen again")


@pytest.fixture
def recipe_file(tmp_path: Path, unread_model: Path) -> Path:
    return write_recipe(
        tmp_path, unread_model, write_corpus(tmp_path / "corpus.jsonl", 12), evaluate={"controls": True}
    )


def prepared(recipe_file: Path, root: Path, dtype: DType, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setattr(pipeline, "choose_dtype", chooses(dtype))
    recipe = load_single_recipe(str(recipe_file))
    pipeline.ingest(resolve(recipe), RunFolders(root))
    [plan] = pipeline.prepare(resolve(recipe), RunFolders(root), list(pipeline.STAGES), **options)
    return plan


def test_engine_training_and_evaluation_compute_in_what_was_chosen(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepared(recipe_file, tmp_path / "run", "float32", monkeypatch)
    assert (plan.recipe.engine.dtype, plan.recipe.train.dtype) == ("float32", "float32")
    assert plan.recipe.answering_engine.dtype == "float32"
    [part] = plan.parts
    for branch in part.branches:
        assert branch.candidates.inputs["dtype"] == "float32"
    assert part.evaluation.inputs["dtype"] == "float32"
    assert {training.model.inputs["train"]["dtype"] for training in plan.trainings} == {"float32"}


def test_a_run_that_goes_on_where_another_format_is_faster_keeps_its_own(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(recipe_file, tmp_path / "run", "float32", monkeypatch)
    elsewhere = prepared(recipe_file, tmp_path / "run", "bfloat16", monkeypatch)
    assert elsewhere.recipe == first.recipe
    assert recorded_dtype(first.recipe, RunFolders(tmp_path / "run")) == "float32"
    assert with_dtype(load_single_recipe(str(recipe_file)), RunFolders(tmp_path / "run"), never) == first.recipe


def test_a_run_that_starts_over_chooses_anew(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(recipe_file, tmp_path / "run", "float32", monkeypatch)
    assert prepared(recipe_file, tmp_path / "run", "bfloat16", monkeypatch, overwrite=True).recipe.engine.dtype == (
        "bfloat16"
    )


def test_a_format_that_the_recipe_names_is_not_chosen(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_single_recipe(str(recipe_file), ["engine.dtype=float16", "train.dtype=float32"])
    assert with_dtype(recipe, RunFolders(tmp_path / "run"), never) == recipe
    trained = with_dtype(load_single_recipe(str(recipe_file), ["engine.dtype=float16"]), None, never)
    assert trained.train.dtype == "float16"


def test_another_format_than_the_runs_is_refused(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(recipe_file, tmp_path / "run", "float32", monkeypatch)
    other = load_single_recipe(str(recipe_file), ["engine.dtype=bfloat16"])
    with pytest.raises(UserError, match='dtype: "float32" there, "bfloat16" now'):
        pipeline.prepare(resolve(other), RunFolders(tmp_path / "run"), ["generate"])


def test_a_mixture_remembers_by_its_parts(tmp_path: Path, unread_model: Path) -> None:
    part = {"task": {"name": "prompts", "path": "unread.jsonl"}, "method": "direct"}
    raw = {"name": "both", "model": str(unread_model), "parts": {"one": part, "two": part}}
    mixture = parse(Mixture, raw, "mixture")
    folders = RunFolders(tmp_path)
    assert recorded_dtype(mixture, folders) is None
    candidates = folders.part("two").candidates
    candidates.mkdir(parents=True)
    (candidates / INPUTS).write_text(json.dumps({"dtype": "float32"}))
    resolved = with_dtype(mixture, folders, never)
    assert {own.engine.dtype for own in resolved.recipes().values()} == {"float32"}


def test_what_is_not_there_whole_is_not_remembered(tmp_path: Path, recipe_file: Path) -> None:
    recipe, folders = load_single_recipe(str(recipe_file)), RunFolders(tmp_path / "run")
    folders.candidates.mkdir(parents=True)
    (folders.candidates / INPUTS).write_text(json.dumps({"discarded": True}))
    assert with_dtype(recipe, folders, chooses("bfloat16")).engine.dtype == "bfloat16"
    assert "dtype" not in read_json(folders.candidates / INPUTS)
