"""A mixture and two rounds on a local Ray, from prompts to the overview, with the scripted engine and real training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s2d_ray.data.files import read_json, read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.errors import UserError
from s2d_ray.recipes.load import load_recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.resolved import resolve
from tests.stages.runs import by_id, ids, run, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.train]
TRAIN = {"steps": 3, "batch_size": 4, "micro_batch_size": 4}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """A recipe of three parts, two of them over the same prompts and one that keeps nothing; and its finished run."""
    folder = tmp_path_factory.mktemp("mixture")
    task = {"name": "prompts", "path": str(write_corpus(folder / "corpus.jsonl", 40))}
    parts = {
        "slow": {"task": task, "method": {"name": "s2a", "prompts": "few_shot"}, "max_examples": 7},
        "quick": {"task": task, "method": "direct", "generate": {"samples": 3}},
        "unreadable": {"task": task | {"answer_pattern": "never: (.*)"}, "method": "direct"},
    }
    recipe = write_recipe(folder, tiny_model, folder / "corpus.jsonl", train=TRAIN)
    content = yaml.safe_load(recipe.read_text())
    del content["task"], content["method"]
    recipe.write_text(yaml.safe_dump(content | {"parts": parts}, sort_keys=False))
    said = run(["run", str(recipe)], folder)
    assert "overview.html" in said
    return recipe, folder


def test_each_part_has_its_own_candidates_targets_and_answers(mixture: tuple[Path, Path]) -> None:
    _, root = mixture
    parts = {name: RunFolders(root / "trial").part(name) for name in ("slow", "quick", "unreadable")}
    prompts = ids(parts["slow"].prompts)
    for name, folders in parts.items():
        assert ids(folders.candidates) == ids(folders.distilled) == prompts
        evaluated = read_json(folders.evaluation / "manifest.json")
        few_shot = ["base_few_shot"] if name == "slow" else []
        assert evaluated["arms"] == ["base", *few_shot, "teacher", "student"]
    steps = {
        name: {len(sample["steps"]) for row in read_rows(p.candidates) for sample in row["samples"]}
        for name, p in parts.items()
    }
    assert steps == {"slow": {2}, "quick": {1}, "unreadable": {1}}


def test_one_training_takes_the_pairs_of_all_parts(mixture: tuple[Path, Path]) -> None:
    _, root = mixture
    run_folders = RunFolders(root / "trial")
    kept = {name: by_id(run_folders.part(name).distilled, "kept") for name in ("slow", "quick", "unreadable")}
    assert kept["slow"].keys() & kept["quick"].keys(), "the same prompt may be in two parts"
    assert len(kept["slow"]) > 7
    assert kept["unreadable"] == {}
    assert read_json(run_folders.model / "manifest.json")["examples"] == 7 + len(kept["quick"])
    assert [path.parent.name for path in (root / "trial").rglob("model/model.safetensors")] == ["model"]


def test_the_overview_has_a_line_for_each_part_with_its_report(mixture: tuple[Path, Path]) -> None:
    _, root = mixture
    folder = root / "trial" / "report"
    overview = read_json(folder / "overview.json")
    assert [line["part"] for line in overview["lines"]] == ["slow", "quick", "unreadable"]
    for line in overview["lines"]:
        assert (folder / line["report"]).is_file()
        assert line["arms"].keys() == {"base", "teacher", "student"}
    unreadable = overview["lines"][2]
    assert (unreadable["kept"], unreadable["verdict"]) == (0, "open: more held-out prompts are needed")
    assert (folder / "overview.md").is_file()


def test_a_finished_mixture_is_reused_and_a_changed_part_refused(mixture: tuple[Path, Path]) -> None:
    recipe, root = mixture
    manifests = {path: path.read_text() for path in (root / "trial").rglob("manifest.json")}
    assert len(manifests) == 3 * len(("prompts", "candidates", "distilled", "evaluation")) + len(("model", "general"))
    run(["run", str(recipe)], root)
    assert {path: path.read_text() for path in (root / "trial").rglob("manifest.json")} == manifests
    changed = load_recipe(str(recipe), ["parts.quick.generate.samples=2"])
    refused = r"parts/quick/candidates was made by a different recipe \(samples: 3 there, 2 now\)"
    with pytest.raises(UserError, match=refused):
        pipeline.prepare(resolve(changed), RunFolders(root / "trial"), list(pipeline.STAGES))


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("rounds")
    corpus = write_corpus(folder / "corpus.jsonl", 40)
    task = {"name": "prompts", "path": str(corpus), "valid_share": 0.2}
    evaluate = {"controls": False, "seeds": 2}
    recipe = write_recipe(folder, tiny_model, corpus, task=task, train=TRAIN, evaluate=evaluate, rounds=2)
    pipeline.ingest(resolve(load_recipe(str(recipe))), RunFolders(folder / "trial"))
    plans = pipeline.prepare(resolve(load_recipe(str(recipe))), RunFolders(folder / "trial"), list(pipeline.STAGES))
    # Every stage of both: to a script all models are the same, so that none ever gains anything.
    for plan in plans:
        for stage in pipeline.STAGES.values():
            stage(plan)
    yield recipe, folder, plans


@pytest.mark.long
def test_the_second_round_goes_on_from_the_first_ones_model(two_rounds: Any) -> None:
    from safetensors.torch import load_file

    _, folder, (first, second) = two_rounds
    run_folders = RunFolders(folder / "trial")
    assert second.base.folder == run_folders.model
    assert ids(run_folders.round(2).candidates) == ids(run_folders.candidates)
    assert not run_folders.round(2).prompts.exists()
    adapter = json.loads((run_folders.round(2).model / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(run_folders.model)
    name = "model.layers.0.mlp.up_proj.weight"
    weights = [load_file(plan.trainings[0].model.path / "model.safetensors")[name] for plan in (first, second)]
    assert not weights[0].equal(weights[1])


@pytest.mark.long
def test_each_seed_is_a_model_of_its_own_that_is_evaluated_too(two_rounds: Any) -> None:
    from safetensors.torch import load_file

    _, folder, (first, second) = two_rounds
    for plan in (first, second):
        one, other = (training.model.path / "adapter" / "adapter_model.safetensors" for training in plan.trainings)
        weights = [load_file(path) for path in (one, other)]
        assert not all(weights[0][name].equal(weights[1][name]) for name in weights[0])
        report = read_json(plan.folders.report / "report.json")
        assert len(report["repeats"]["accuracy"]["student"]["all"]["values"]) == 2
        assert len(report["repeats"]["verdicts"]) == 2
    assert read_json(folder / "trial" / "validation" / "manifest.json")["arms"] == ["base", "student"]


@pytest.mark.long
def test_the_overview_has_a_line_for_each_round(two_rounds: Any) -> None:
    _, folder, _ = two_rounds
    report = folder / "trial" / "report"
    overview = read_json(report / "overview.json")
    assert [(line["round"], line["report"]) for line in overview["lines"]] == [
        (1, "report.html"),
        (2, "../round-2/report/report.html"),
    ]
    assert "Round 2 gained nothing" in overview["rounds"]["outcome"]
    assert all((report / line["report"]).is_file() for line in overview["lines"])


@pytest.mark.long
def test_the_command_stops_after_a_round_without_gain(two_rounds: Any) -> None:
    _, folder, plans = two_rounds
    stages = list(pipeline.STAGES)
    assert [plan.round for plan in pipeline.rounds(plans, stages)] == [1]
    pipeline.report(plans[0])
    overview = read_json(folder / "trial" / "report" / "overview.json")
    assert [line["round"] for line in overview["lines"]] == [1]
    assert "Round 1 gained nothing" in overview["rounds"]["outcome"]
