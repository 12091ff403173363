"""The distilled model and its controls on a local Ray: trained alike, whatever each of them is trained on."""

from pathlib import Path

import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG, RunFolders
from tests.stages.runs import run_here, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.train, pytest.mark.long]


def test_all_arms_are_trained_in_equally_many_steps(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 60)
    train = {"epochs": 1, "batch_size": 4, "micro_batch_size": 4}
    recipe = write_recipe(tmp_path, tiny_model, corpus, train=train, evaluate={"controls": True})
    folders = RunFolders(run_here(recipe, tmp_path, "generate", "curate", "train"))
    models = [folders.model, *(folders.control(arm).model for arm in ("student_of_base", "student_uncurated"))]
    student, *controls = (read_json(model / "manifest.json") for model in models)
    assert student["steps"] == round(student["examples"] / 4)
    assert any(round(control["examples"] / 4) != student["steps"] for control in controls), "nothing to tell apart"
    for model in models:
        assert [entry["step"] for entry in read_json_lines(model / TRAINING_LOG)] == list(
            range(1, student["steps"] + 1)
        )
