"""What is planned beside the arms' answers: how far a change reaches, and what is refused before anything starts."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.errors import UserError
from s2d_ray.recipes.general import General
from s2d_ray.recipes.recipe import Mixture, Recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.graph import make_plans
from s2d_ray.runs.resolved import resolve
from s2d_ray.runs.run import Run
from s2d_ray.tasks.general import general_items, known

WITHOUT_LM_EVAL = pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")


@pytest.fixture
def settings(tmp_path: Path, unread_model: Path) -> dict[str, Any]:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(40)))
    return {
        "name": "trial",
        "model": str(unread_model),
        "task": {"name": "prompts", "path": str(corpus)},
        "method": "s2a",
        "engine": {"kind": "scripted", "dtype": "float32"},
    }


def fingerprints(settings: Mapping[str, Any], root: Path, **evaluate: Any) -> dict[str, str]:
    """Folder that evaluation makes → what it is made from."""
    recipe = Recipe.model_validate({**settings, "evaluate": {"controls": False, **evaluate}})
    pipeline.ingest(resolve(recipe), RunFolders(root))
    [plan] = make_plans(resolve(recipe), RunFolders(root))
    made: list[Artifact[Any]] = plan.artifacts("evaluate")
    return {artifact.path.name: artifact.fingerprint for artifact in made}


def test_what_is_asked_for_beside_has_its_folder_and_leaves_the_answers_as_they_are(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    plain = fingerprints(settings, tmp_path, general=None)
    assert plain.keys() == {"evaluation"}
    whole = fingerprints(settings, tmp_path, judge={})
    assert whole.keys() == {"evaluation", "general", "judged"}
    assert whole["evaluation"] == plain["evaluation"]


@pytest.mark.parametrize(
    ("evaluate", "reached"),
    [
        ({"general": {"items": 9}}, {"general"}),
        ({"general": {"max_tokens": 9}}, {"general"}),
        ({"general": {"max_fall": 9, "max_refusals": 1, "max_length": 9}}, set()),
        ({"judge": {"method": "bsm"}}, {"judged"}),
        ({"judge": {"sampling": {"max_tokens": 9}}}, {"judged"}),
        ({"sampling": {"max_tokens": 9}}, {"evaluation", "judged"}),
    ],
)
def test_a_setting_reaches_what_it_changes(
    settings: dict[str, Any], tmp_path: Path, evaluate: dict[str, Any], reached: set[str]
) -> None:
    before, after = (
        fingerprints(settings, tmp_path, judge={}),
        fingerprints(settings, tmp_path, **{"judge": {}} | evaluate),
    )
    assert {folder for folder in before if before[folder] != after[folder]} == reached


def test_the_model_of_a_mixture_is_looked_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    part = {"task": settings.pop("task"), "method": settings.pop("method")}
    mixture = Mixture.model_validate(settings | {"parts": {"one": part, "two": part}, "evaluate": {"judge": {}}})
    pipeline.ingest(resolve(mixture), RunFolders(tmp_path / "run"))
    [plan] = make_plans(resolve(mixture), RunFolders(tmp_path / "run"))
    made = {str(artifact.path.relative_to(tmp_path / "run")) for artifact in plan.artifacts("evaluate")}
    assert made == {"general", *(f"parts/{n}/{folder}" for n in ("one", "two") for folder in ("evaluation", "judged"))}
    assert {folders.general for folders in plan.part_folders.values()} == {tmp_path / "run" / "general"}


@WITHOUT_LM_EVAL
def test_benchmarks_without_their_package_are_refused_with_what_to_install(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(settings | {"evaluate": {"benchmarks": ["arc_easy"]}})
    with pytest.raises(
        UserError, match=r"^evaluate\.benchmarks needs the package lm-eval: pip install 'lm-eval\[hf\]'"
    ):
        Run(recipe, root=tmp_path).execute()
    assert not (tmp_path / "trial").exists()
    # What was evaluated elsewhere can be asked, served and reported here.
    Run(recipe, root=tmp_path).check()


def test_an_edited_benchmark_of_ones_own_is_another(settings: dict[str, Any], tmp_path: Path) -> None:
    task = tmp_path / "own.yaml"
    seen = []
    for text in ("one: 1", "one: 2"):
        task.write_text(text)
        seen.append(fingerprints(settings, tmp_path / "run", benchmarks=[str(task)])["benchmarks"])
    assert seen[0] != seen[1]


def test_a_judge_that_there_is_not_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method jury"):
        resolve(Recipe.model_validate(settings | {"evaluate": {"judge": {"method": "jury"}}}))
    with pytest.raises(UserError, match="no model folder"):
        fingerprints(settings, tmp_path, judge={"model": "./nowhere"})


def test_the_general_set_is_the_same_for_all_and_fits_a_small_context() -> None:
    items = general_items(General().items)
    assert general_items(40)[:24] == items[:24]
    replies, prompts = items[:24], items[24:]
    assert all(item.reply for item in replies) and not any(item.reply for item in prompts)
    assert len({item.prompt for item in items}) == len({item.item_id for item in items}) == 48
    assert max(len(item.prompt) + len(item.reply) for item in items) <= 2000


def test_items_that_stand_in_the_corpus_are_known() -> None:
    items = general_items(4)
    asked = {"messages": [{"role": "user", "content": f" {items[5].prompt.upper()}"}], "fields": []}
    judged = {"messages": [], "fields": [{"key": "question", "value": items[0].prompt}]}
    other = {"messages": [{"role": "user", "content": "Which country is Lyon in?"}], "fields": []}
    assert known(items, [asked, judged, other, other]) == {items[0].item_id, items[5].item_id}


def test_all_rounds_have_one_judge(settings: dict[str, Any], tmp_path: Path) -> None:
    task = settings["task"] | {"valid_share": 0.2}
    evaluate = {"judge": {}, "controls": False}
    recipe = Recipe.model_validate(settings | {"task": task, "rounds": 2, "evaluate": evaluate})
    pipeline.ingest(resolve(recipe), RunFolders(tmp_path))
    first, second = make_plans(resolve(recipe), RunFolders(tmp_path))
    judges = [plan.parts[0].judged.inputs["model"] for plan in (first, second)]  # type: ignore[union-attr]
    assert judges == [first.base.identity] * 2
    assert second.base.identity != first.base.identity
