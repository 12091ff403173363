"""A run is made from one commit of a model on the hub, wherever its branch is meanwhile."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import INPUTS
from s2d_ray.data.files import read_json, write_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.hub import HubPath
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.graph import Plan
from s2d_ray.runs.resolved import resolve
from s2d_ray.runs.revisions import REVISION, base_model
from tests.hub import Hub, known_here, serving
from tests.stages.runs import write_corpus, write_recipe

NAME = "somebody/a-model"


@pytest.fixture
def hub(tmp_path: Path, unread_model: Path) -> Iterator[Hub]:
    with serving() as found, known_here(found, tmp_path / "home"):
        found.push(NAME, unread_model)
        yield found


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, Path(NAME), write_corpus(tmp_path / "corpus.jsonl", 12))


def move(hub: Hub, unread_model: Path, config: str = '{"later": 1}') -> str:
    """The branch's new commit."""
    later = shutil.copytree(unread_model, unread_model.with_name(f"model-{len(hub.repositories[NAME].commits)}"))
    (later / "config.json").write_text(config)
    return hub.push(NAME, later)


def prepared(recipe_file: Path, root: Path, *overrides: str, **options: Any) -> Plan:
    recipe = load_single_recipe(str(recipe_file), ["engine.dtype=float32", *overrides])
    pipeline.ingest(resolve(recipe), RunFolders(root))
    [plan] = pipeline.prepare(resolve(recipe), RunFolders(root), list(pipeline.STAGES), **options)
    return plan


def commit(plan: Plan) -> str:
    assert isinstance(plan.base.folder, HubPath) and plan.base.folder.commit == plan.recipe.model_revision
    return plan.base.folder.commit


def test_a_run_that_goes_on_keeps_the_commit_that_it_began_with(
    hub: Hub, recipe_file: Path, tmp_path: Path, unread_model: Path
) -> None:
    first = prepared(recipe_file, tmp_path / "run")
    assert commit(first) == hub.repositories[NAME].branches["main"]
    later = move(hub, unread_model)
    assert prepared(recipe_file, tmp_path / "run").base == first.base
    assert base_model(load_single_recipe(str(recipe_file)), RunFolders(tmp_path / "run")) == first.base
    assert commit(prepared(recipe_file, tmp_path / "other")) == later != commit(first)


def test_a_run_that_starts_over_takes_the_branch_as_it_is(
    hub: Hub, recipe_file: Path, tmp_path: Path, unread_model: Path
) -> None:
    prepared(recipe_file, tmp_path / "run")
    later = move(hub, unread_model)
    assert commit(prepared(recipe_file, tmp_path / "run", overwrite=True)) == later
    assert commit(prepared(recipe_file, tmp_path / "run")) == later


def test_the_commit_itself_may_be_named_later(hub: Hub, recipe_file: Path, tmp_path: Path, unread_model: Path) -> None:
    first = prepared(recipe_file, tmp_path / "run")
    move(hub, unread_model)
    assert prepared(recipe_file, tmp_path / "run", f"model_revision={commit(first)}").base == first.base
    assert prepared(recipe_file, tmp_path / "run").base == first.base


def test_another_revision_than_the_runs_is_refused_and_forgets_nothing(
    hub: Hub, recipe_file: Path, tmp_path: Path, unread_model: Path
) -> None:
    first = prepared(recipe_file, tmp_path / "run")
    later = move(hub, unread_model)
    for overrides in (["model_revision=main"], [f"model_revision={later}"]):
        with pytest.raises(UserError, match=r"was made by a different recipe .*model\.identity"):
            prepared(recipe_file, tmp_path / "run", *overrides)
    assert prepared(recipe_file, tmp_path / "run").base == first.base


def test_a_run_of_before_models_were_told_apart_by_the_hub_goes_on(
    hub: Hub, recipe_file: Path, tmp_path: Path, unread_model: Path
) -> None:
    plan = prepared(recipe_file, tmp_path / "run")
    by_bytes = Model.local("before", unread_model).identity
    stages = ("generate", "curate", "train", "evaluate")
    candidates, *others = (artifact for stage in stages for artifact in plan.artifacts(stage))
    write_json(candidates.path / INPUTS, {**candidates.inputs, "model": {"name": NAME, "identity": by_bytes}})
    for artifact in others:
        shutil.rmtree(artifact.path)
    (tmp_path / "run" / REVISION).unlink()
    again = prepared(recipe_file, tmp_path / "run")
    assert again.base.identity == by_bytes and again.base.folder == plan.base.folder
    assert json.loads((candidates.path / INPUTS).read_text())["model"]["identity"] == by_bytes


def test_a_model_that_is_not_on_the_hub_has_no_commit(tmp_path: Path, unread_model: Path) -> None:
    recipe_file = write_recipe(tmp_path, unread_model, write_corpus(tmp_path / "corpus.jsonl", 12))
    assert prepared(recipe_file, tmp_path / "run").recipe.model_revision is None
    assert not (tmp_path / "run" / REVISION).exists()
    assert "commit" not in read_json(tmp_path / "run" / "candidates" / INPUTS)["model"]
