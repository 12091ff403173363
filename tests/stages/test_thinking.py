"""The model's own thinking distilled into System 1: a thought is counted and kept for people, and nothing else."""

from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import ModelManifest
from s2d_ray.data.records import Row
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.resolved import resolve
from tests.scripts import THOUGHT
from tests.stages.runs import write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> Path:
    """The results of a run that distils thinking, as it is without a training."""
    folder = tmp_path_factory.mktemp("thinking")
    recipe = write_recipe(
        folder,
        tiny_model,
        write_corpus(folder / "corpus.jsonl", 40),
        "hybrid",
        method={"name": "think", "thinking_tokens": 100},
        generate={"samples": 3},
        curate={"rules": ["universal"]},
        evaluate={"judge": {}},
    )
    resolved = resolve(load_single_recipe(str(recipe)))
    folders = RunFolders(folder / resolved.recipe.name)
    pipeline.ingest(resolved, folders)
    [plan] = pipeline.prepare(resolved, folders, list(pipeline.STAGES))
    pipeline.generate(plan)
    pipeline.curate(plan)
    for training in plan.trainings:
        training.model.open()
        training.model.finish(ModelManifest(skipped="no training here", seconds=0.0))
    pipeline.evaluate(plan)
    return folders.base


def samples(folder: Path, arm: str | None = None) -> list[Row]:
    """With a call each."""
    rows = [row for row in read_rows(folder) if arm is None or row["arm"] == arm]
    return [sample for row in rows for sample in row["samples"]]


def test_system_2_thinks_and_its_text_and_tokens_tell_the_thought_from_the_answer(base: Path) -> None:
    found = [*samples(base / "candidates"), *samples(base / "evaluation", "teacher")]
    assert found
    for sample in found:
        [step] = sample["steps"]
        assert sample["text"] == step["text"] and sample["text"] in ("answer True", "answer False")
        assert step["thought"].startswith(THOUGHT)
        assert step["completion_tokens"] == 4, "two words of thought, and two said"


def test_system_1_does_not_think_in_evaluation_or_as_a_control(base: Path) -> None:
    control = RunFolders(base).control("student_of_base").candidates
    found = [*samples(base / "evaluation", "base"), *samples(control)]
    assert found
    for sample in found:
        assert sample["text"].startswith("guess")
        assert [(step["thought"], step["completion_tokens"]) for step in sample["steps"]] == [("", 2)]


def test_samples_that_differ_in_their_thoughts_alone_agree_and_no_target_has_one(base: Path) -> None:
    rows = list(read_rows(base / "distilled"))
    kept = list(read_rows(base / "distilled" / "status=kept"))
    assert len(kept) == len(rows) > 20, "the model is asked which response it finds best, and sees no thought"
    assert {len(set(row["votes"])) for row in kept} == {1, 2}
    for row in kept:
        assert row["target"] in ("answer True", "answer False")
        assert THOUGHT not in str(row)
        if len(set(row["votes"])) == 1:
            assert row["vote_share"] == 1.0


def test_a_judge_is_shown_no_thought(base: Path) -> None:
    judged = list(read_rows(RunFolders(base).judged))
    asked = [row for row in judged if row["asked"]]
    assert asked
    for row in asked:
        assert (row["verdict"], row["verdict_swapped"], row["error"]) == ("A", "B", "")
    assert Artifact(RunFolders(base).judged, {}, ModelManifest).finished
