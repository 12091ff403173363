"""Students on other targets on a local Ray: from one set of System 2 answers to the report on which of them to ship."""

from pathlib import Path

import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG, RunFolders
from tests.stages.runs import by_id, run_here, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.train, pytest.mark.long]
TARGETS = ["shortest", "shortened", "internalised"]
STAGES = ["generate", "curate", "train", "evaluate", "report"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> RunFolders:
    """Of a finished run."""
    root = tmp_path_factory.mktemp("targets")
    recipe = write_recipe(
        root,
        tiny_model,
        root,
        script="sums",
        task={"name": "gsm8k"},
        method={"name": "cot", "prompts": "few_shot"},
        limit=20,
        train={"steps": 5, "batch_size": 4, "micro_batch_size": 4, "max_length": 1024},
        evaluate={"controls": False, "general": None, "limit": 6, "targets": TARGETS},
    )
    return RunFolders(run_here(recipe, root, *STAGES))


def test_each_target_is_made_of_the_same_answers(folders: RunFolders) -> None:
    trained = {
        target: {
            row["messages"][-1]["content"]
            for row in by_id(folders.control(f"student_{target}").distilled, "kept").values()
        }
        for target in TARGETS
    }
    assert {row["messages"][-1]["content"] for row in by_id(folders.distilled, "kept").values()} == {"7"}
    assert trained["shortened"] == {"2+5=7\nThe answer is 7"}
    assert (
        trained["internalised"]
        == trained["shortest"]
        <= {f"{'Let me see. ' * times}2 and 5 are 7. The answer is 7" for times in range(3)}
    )
    assert not any((folders.control(f"student_{target}").candidates).exists() for target in TARGETS)


def test_all_are_trained_in_equally_many_steps_and_one_loses_its_trace(folders: RunFolders) -> None:
    models = {target: folders.control(f"student_{target}").model for target in TARGETS}
    assert {read_json(model / "manifest.json")["steps"] for model in (folders.model, *models.values())} == {5}
    tokens = {
        target: [step["tokens"] for step in read_json_lines(model / TRAINING_LOG)] for target, model in models.items()
    }
    alone = [step["tokens"] for step in read_json_lines(folders.model / TRAINING_LOG)]
    # Three of five steps take the trace away, in thirds of the longest.
    assert tokens["internalised"][3:] == alone[3:]
    assert all(a < b for a, b in zip(alone[:2], tokens["internalised"][:2], strict=True))
    assert all(a > b for a, b in zip(tokens["shortest"][1:], tokens["internalised"][1:], strict=True))


def test_all_answer_and_the_report_says_which_to_ship(folders: RunFolders) -> None:
    arms = ["student", *(f"student_{target}" for target in TARGETS)]
    assert read_json(folders.evaluation / "manifest.json")["arms"] == ["base", "base_few_shot", "teacher", *arms]
    report = read_json(folders.report / "report.json")
    assert list(report["frontier"]["points"]) == ["base", "base_few_shot", *arms]
    assert report["training"].keys() == set(arms)
    assert "To ship" in (folders.report / "report.html").read_text()
