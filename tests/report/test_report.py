"""What report.json holds of a small run folder, read as a program would."""

import math
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.files import write_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.errors import UserError
from s2d_ray.evaluation.statistics import holm
from s2d_ray.recipes.serve import Cascade, Serve
from s2d_ray.report.report import write_report
from s2d_ray.report.schema import read_report
from tests.manifests import write_lease
from tests.report.toy_run import ARMS, RECIPE, SKILL, Toy, recipe, report_of, write_run


def test_every_arm_is_scored_in_every_subset(report: Any) -> None:
    assert list(report["arms"]) == ARMS
    for arm in ARMS:
        skill, scores = SKILL[arm], report["arms"][arm]
        assert {subset: score["n"] for subset, score in scores["subsets"].items()} == {
            "doubt": 40,
            "plain": 40,
            "right": 40,
            "all": 120,
        }
        for score in scores["subsets"].values():
            assert score["accuracy"] == pytest.approx(skill / 10)
            assert score["low"] < skill / 10 < score["high"]
            assert score["unanswered"] == pytest.approx(0.1)
            assert score["scored_against"] == "reference"
        tokens = 30 if arm == "teacher" else 4
        assert scores["tokens_per_answer"] == scores["subsets"]["all"]["tokens_per_answer"] == tokens
        assert set(scores["by_group"]) == {"even", "odd"}
        assert scores["by_group"]["even"]["plain"]["n"] == 20


def test_prompts_add_up_to_the_corpus(report: Any) -> None:
    prompts = report["prompts"]
    assert prompts == {"corpus": 120, "kept": 80, "rejected": {"no | majority": 39}, "failed": {"too long": 1}}
    assert report["vote_shares"] == {"kept": {"0.75": 80}, "rejected": {"0.50": 39}}


@pytest.mark.parametrize(
    ("target", "threshold", "said"),
    [(0.8, -0.5, "It answers <b>90.0%</b> of the prompts"), (0.95, None, "so System 2 answers everything")],
)
def test_a_cascade_is_calibrated_where_the_recipe_asks_for_one(
    tmp_path: Path, report: Any, target: float, threshold: float | None, said: str
) -> None:
    run = write_run(tmp_path / "toy", Toy())
    recipe = RECIPE.model_copy(update={"serve": Serve(cascade=Cascade(target=target))})
    found = report_of(recipe, Toy(), run)["cascade"]
    # They differ in one prompt of ten, which only distilled System 1 answers right, and surely. One has no answer of
    # the distilled model, and goes on to System 2.
    assert found["calibration"]["threshold"] == threshold
    assert (found["calibration"]["at_threshold"] is None) == (threshold is None)
    assert [(point["threshold"], point["coverage"]["value"]) for point in found["curve"]] == [
        (-0.125, 0.7),
        (-0.5, 0.9),
    ]
    assert [point["agreement"]["value"] for point in found["curve"]] == pytest.approx([0.9, 0.9])
    assert said in (run.report / "report.html").read_text()
    assert said.replace("<b>", "").replace("</b>", "") in (run.report / "report.md").read_text()
    assert report["cascade"] is None


def test_precision_of_targets_is_above_that_of_raw_answers(report: Any) -> None:
    assert (report["precision"]["curated"]["value"], report["precision"]["curated"]["n"]) == (1.0, 80)
    assert report["precision"]["raw"]["value"] == pytest.approx((80 * 0.75 + 39 * 0.25) / 119)
    # On the prompts that were kept: what is left is the choice of an answer.
    assert (report["precision"]["raw_kept"]["value"], report["precision"]["raw_kept"]["n"]) == (0.75, 80)


def test_time_of_every_stage_is_there_and_the_controls_are_added_up(report: Any) -> None:
    assert report["seconds"] == {
        "generate": 60.0,
        "curate": 2.0,
        "train": 30.0,
        "evaluate": 5.0,
        "control_generate": 60.0,
        "control_curate": 4.0,
        "control_train": 60.0,
    }


def test_the_ledger_says_when_distilling_has_paid(report: Any) -> None:
    generated = 120 * 4 * 30
    assert report["ledger"] == {
        "steps": {
            "rewrite": {"calls": 480, "prompt": 480 * 9, "cached": 0, "generated": 480 * 20},
            "respond": {"calls": 480, "prompt": 480 * 9, "cached": 0, "generated": 480 * 10},
        },
        "work": {},
        "accepted": 80,
        "generated_tokens": generated,
        "tokens_per_prompt": 120,
        "tokens_per_accepted": generated / 80,
        "saved_per_request": 26,
        "break_even_requests": 554,
        "break_even_with_training": None,
    }


def test_a_part_bears_its_own_time_and_its_share_of_the_training(tmp_path: Path) -> None:
    whole = RunFolders(tmp_path / "toy")
    part = whole.round(2).part("one")
    write_run(part.base, Toy(), ["base", "teacher", "student"])
    (part.base / "model").rename(part.model)
    spent = {"seconds": 40.0, "gpu_seconds": 8.0}
    paths = ("round-2/parts/one/candidates", "round-2/model", "round-2/parts/two/candidates", "model")
    write_lease(whole.base, dict.fromkeys(paths, spent))
    # It gives 20 of the 80 pairs.
    own = RECIPE.model_copy(update={"train": RECIPE.train.model_copy(update={"max_examples": 20})})
    ledger = report_of(own, Toy(), part)["ledger"]
    assert ledger["work"] == {"generate": spent, "train": {"seconds": 10.0, "gpu_seconds": 2.0}}
    assert ledger["break_even_with_training"] == math.ceil(120 * 4 * 30 * 10 / 8 / 26)


def test_the_verdict_and_the_comparisons_are_of_the_same_answers(report: Any) -> None:
    assert report["verdict"]["verdict"] == "distils"
    assert set(report["verdict_by_subset"]) == {"right", "doubt", "plain", "all"}
    difference = report["comparisons"]["student_vs_teacher"]["all"]
    assert (difference["n"], difference["first_only"], difference["second_only"]) == (120, 12, 0)
    assert {"student_vs_base", "teacher_vs_base"} < set(report["comparisons"])


def test_steps_that_were_trained_twice_are_shown_once(report: Any) -> None:
    curve = [(point["step"], point["loss"]) for point in report["training"]["student"]["curve"]]
    assert curve == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_examples_are_spread_over_the_subsets_and_show_how_the_teacher_came_to_its_answer(report: Any) -> None:
    examples = report["examples"]
    assert sorted(e["subset"] for e in examples) == sorted(["right", "doubt", "plain"] * 2)
    for example in examples:
        assert list(example["answers"]) == ARMS
        slow = example["answers"]["teacher"]
        assert [step["name"] for step in slow["steps"]] == ["rewrite", "respond"]
        assert slow["correct"] == (slow["text"] == example["references"][0])
        assert example["answers"]["student"]["steps"] == []


def test_without_controls_references_and_subsets_the_report_says_what_it_measured(tmp_path: Path) -> None:
    task = Toy(labelled=False, subsets=("all",))
    run = write_run(tmp_path / "toy", task, ARMS[:3])
    report = report_of(RECIPE, task, run)
    assert list(report["arms"]) == ["base", "teacher", "student"]
    assert list(report["arms"]["student"]["subsets"]) == ["all"]
    assert report["precision"] is None
    assert report["notes"] == []
    assert report["verdict_by_subset"] == {}
    assert list(report["seconds"]) == ["generate", "curate", "train", "evaluate"]
    # Of ten prompts System 2 leaves one unanswered; the distilled model agrees on six right and two wrong ones.
    assert report["arms"]["teacher"]["subsets"]["all"]["accuracy"] == pytest.approx(0.9)
    assert report["arms"]["student"]["subsets"]["all"]["accuracy"] == pytest.approx(0.8)
    assert "agreement with System 2" in report["verdict"]["caveats"][0]
    assert "Agreement with System 2" in (run.report / "report.html").read_text()


def test_an_unfinished_stage_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    (run.model / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"model is not finished"):
        write_report(RECIPE, Toy(), run)


def test_where_system_2_is_kept_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SKILL, "student", SKILL["base"])
    run = write_run(tmp_path / "toy", Toy(), ARMS)
    report = report_of(RECIPE, Toy(), run)
    assert report["verdict"]["verdict"] == "does not distil: keep System 2"
    assert report["arms"]["student"]["tokens_per_answer"] < report["arms"]["teacher"]["tokens_per_answer"]
    assert (report["ledger"]["saved_per_request"], report["ledger"]["break_even_requests"]) == (None, None)
    assert "| requests until they are saved again | never |" in (run.report / "report.md").read_text()


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    evaluate = {"samples": 5, "sampling": {"temperature": 0.6}}
    task, own = Toy(subsets=("all",), mirrored=("all",)), recipe(task="last_letter", method="rar2", evaluate=evaluate)
    own = own.model_copy(update={"serve": Serve(cascade=Cascade(target=0.8))})
    run = write_run(tmp_path / "toy", task, list(SKILL), samples=5)
    written = write_report(own, task, run)
    assert (written.majority, written.reported, written.cascade) != ({}, None, None)
    assert read_report(run.report / "report.json") == written


@pytest.mark.parametrize("version", [None, 1, 2, 3, 5])
def test_a_report_of_another_version_is_refused_with_what_to_do(
    run: RunFolders, report: Any, tmp_path: Path, version: int | None
) -> None:
    path = tmp_path / "report.json"
    write_json(path, report | {"schema_version": version})
    with pytest.raises(UserError, match=r"^\S+ was .*: run `s2d report toy`, as the run was started"):
        read_report(path)


def test_a_report_that_lacks_something_is_refused_in_one_line(report: Any, tmp_path: Path) -> None:
    del report["ledger"]["generated_tokens"]
    write_json(tmp_path / "report.json", report)
    with pytest.raises(UserError, match=r"report\.json: ledger\.generated_tokens: Field required$"):
        read_report(tmp_path / "report.json")


def test_a_loss_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    log = run.model / "training_log.jsonl"
    log.write_text(log.read_text().replace('"loss": 2.0', '"loss": NaN'))
    curve = [point["loss"] for point in report_of(RECIPE, Toy(), run)["training"]["student"]["curve"]]
    assert curve == [3.0, None, 1.0]
    assert "NaN" not in (run.report / "report.json").read_text()


def test_one_comparison_is_the_primary_one_and_the_others_are_adjusted(report: Any) -> None:
    found = {(name, subset): p for name, parts in report["comparisons"].items() for subset, p in parts.items()}
    assert [key for key, p in found.items() if p["adjusted"] is None] == [("student_vs_teacher", "all")]
    others = sorted((p["p_value"], p["adjusted"]) for p in found.values() if p["adjusted"] is not None)
    assert len(others) == 5 * 4 - 1
    assert others[0][1] == pytest.approx(19 * others[0][0], abs=0)
    assert [adjusted for _, adjusted in others] == pytest.approx(holm([p for p, _ in others]), abs=0)


def test_prompts_about_one_thing_count_once(tmp_path: Path, report: Any) -> None:
    task = Toy(clustered=True)
    recipe = RECIPE.model_copy(update={"serve": Serve(cascade=Cascade(target=0.8))})
    found = report_of(recipe, task, write_run(tmp_path / "toy", task))
    for arm in ARMS:
        alone, together = report["arms"][arm]["subsets"], found["arms"][arm]["subsets"]
        assert (alone["all"]["n"], alone["all"]["clusters"]) == (120, 120)
        assert (together["all"]["n"], together["all"]["clusters"]) == (120, 40)
        assert together["all"]["accuracy"] == alone["all"]["accuracy"]
        # The toy is right or wrong in all forms of a question alike.
        assert together["all"]["low"] < together["plain"]["low"] == alone["plain"]["low"] < alone["all"]["low"]
    pair, plain = (one["comparisons"]["student_vs_base"]["all"] for one in (found, report))
    assert pair["low"] < plain["low"] < plain["high"] < pair["high"]
    assert pair["p_value"] > plain["p_value"]
    assert (pair["clusters"], found["cascade"]["calibration"]["clusters"]) == (40, 40)
    assert (found["precision"]["raw"]["n"], found["precision"]["raw"]["clusters"]) == (119, 40)
