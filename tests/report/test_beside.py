"""What a report says of what was lost, and of a judge: from rows as evaluation leaves them."""

from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import BenchmarkScore, BenchmarksManifest, GeneralManifest, JudgedManifest
from s2d_ray.data.records import Row, user
from s2d_ray.evaluation.general import MEASURED
from s2d_ray.evaluation.judging import AGAIN, JUDGEMENTS
from tests.report.toy_run import ARMS, PER_SUBSET, Toy, finish, recipe, report_of, write_run

SUBSETS = ("doubt", "plain", "right")
JUDGE = {"evaluate": {"judge": {"method": "bsm"}}}
Verdicts = tuple[str | None, str | None]


def write_general(folder: Path, fall: float) -> None:
    """Ten replies that became less likely by so much a token, and ten prompts that are answered alike."""
    rows: list[Row] = []
    for i in range(20):
        for arm, lower in (("base", 0.0), ("student", fall + i / 1000)):
            blank = {"reply": "r" if i < 10 else "", "text": "" if i < 10 else "yes", "cut": False, "error": ""}
            likely = {"tokens": 8, "log_likelihood": 8 * (-2.0 - lower) if i < 10 else None}
            rows.append({"prompt_id": str(i), "messages": [user("?")], "arm": arm} | blank | likely)
    finish(folder, rows, MEASURED, GeneralManifest(rows=20, known=3, max_tokens=64, model_loads=2, seconds=1.0))


def write_judged(folder: Path, verdicts: dict[tuple[str, str], list[Verdicts]]) -> None:
    """For each pair of arms the verdicts in both orders, which the prompts are given in turn."""
    rows: list[Row] = []
    for (first, second), given in verdicts.items():
        for number, (subset, i) in enumerate((s, i) for s in SUBSETS for i in range(PER_SUBSET)):
            one, other = given[number % len(given)]
            key = {
                "prompt_id": f"test-{subset}-{i}",
                "subset": subset,
                "group": "even" if i % 2 else "odd",
                "cluster": "",
            }
            said = {"asked": True, "verdict": one, "verdict_swapped": other, "error": ""}
            rows.append(key | {"first": first, "second": second} | said)
    finish(folder, rows, JUDGEMENTS, JudgedManifest(rows=len(rows), seconds=1.0))


def pages(run: RunFolders) -> list[str]:
    return [(run.report / name).read_text() for name in ("report.html", "report.md")]


@pytest.mark.parametrize(
    ("fall", "said"), [(0.5, "less likely than before, by 0.50 nats per token (0.50 to 0.51)"), (0.01, "")]
)
def test_what_was_lost_is_said_with_its_figures(tmp_path: Path, fall: float, said: str) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    write_general(run.general, fall)
    report = report_of(recipe(), Toy(), run)
    assert (report["general"]["replies"], report["general"]["prompts"], report["general"]["known"]) == (10, 10, 3)
    assert report["general"]["refused"]["difference"] == 0
    assert len(report["lost"]) == (1 if said else 0)
    for page in pages(run):
        assert "What was lost" in page and "general set alone" in page
        assert (said or "Nothing beyond the recipe's limits.") in page.replace("&#39;", "'")
    # It turns the verdict.
    assert report["verdict"]["verdict"] == ("partly" if said else "distils")
    assert not said or said in report["verdict"]["reason"]
    allowed = report_of(recipe(evaluate={"general": {"max_fall": 9}}), Toy(), run)
    assert (allowed["lost"], allowed["verdict"]["verdict"]) == ([], "distils")
    assert report_of(recipe(evaluate={"general": None}), Toy(), run)["general"] is None


def test_benchmarks_are_shown_and_can_be_lost(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    of_arm = {"base": BenchmarkScore(value=0.5, stderr=0.01), "student": BenchmarkScore(value=0.3, stderr=0.01)}
    results = {"arc_easy": {"acc": of_arm}}
    finish(run.benchmarks, [], MEASURED, BenchmarksManifest(results=results, lm_eval="0.4", seconds=1.0))
    report = report_of(recipe(evaluate={"benchmarks": ["arc_easy"]}), Toy(), run)
    assert report["general"] is None
    assert "has 30.0% on arc_easy (acc; before: 50.0%" in report["lost"][0]
    assert all("arc_easy" in page and "\N{MINUS SIGN}17.2 points" in page for page in pages(run))


def test_a_run_without_any_of_it_has_no_such_sections(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    report = report_of(recipe(), Toy(), run)
    assert (report["general"], report["judged"], report["benchmarks"], report["lost"]) == (None, None, [], [])
    assert not any(title in page for page in pages(run) for title in ("What was lost", "What a judge prefers"))


WINS, LOSES, TIES, FICKLE, MUTE = ("A", "A"), ("B", "B"), ("tie", "tie"), ("A", "B"), (None, "A")


@pytest.fixture
def judged_run(tmp_path: Path) -> RunFolders:
    run = write_run(tmp_path / "toy", Toy(labelled=False), ARMS[:3])
    write_judged(
        run.judged,
        {
            ("base", "teacher"): [LOSES, LOSES, LOSES, TIES],
            ("student", "teacher"): [WINS, LOSES, TIES, FICKLE, MUTE],
            (AGAIN, "teacher"): [TIES, TIES, TIES, LOSES],
            ("student", "base"): [WINS, WINS, TIES],
        },
    )
    return run


def test_without_references_the_judge_decides(judged_run: RunFolders) -> None:
    report: Any = report_of(recipe(**JUDGE), Toy(labelled=False), judged_run)
    assert report["metric"] == "as good as System 2"
    scores = {arm: parts["subsets"]["all"] for arm, parts in report["arms"].items()}
    assert {arm: score["accuracy"] for arm, score in scores.items()} == {"base": 0.25, "teacher": 0.75, "student": 0.8}
    assert {score["scored_against"] for score in scores.values()} == {"judge"}
    assert scores["student"]["tokens_per_answer"] == 4
    # The comparisons, and with them the verdict, are of the preferences.
    differences = {name: parts["all"]["difference"] for name, parts in report["comparisons"].items()}
    assert differences == pytest.approx({"student_vs_teacher": 0, "student_vs_base": 2 / 3, "teacher_vs_base": 0.75})
    assert set(report["comparisons"]["student_vs_teacher"]) == {*SUBSETS, "all"}
    adjusted = [cell.pop("adjusted") for parts in report["comparisons"].values() for cell in parts.values()]
    assert adjusted.count(None) == 1 < len(adjusted), "one is the primary one"
    for parts in report["judged"]["comparisons"].values():
        for cell in parts.values():
            cell.pop("adjusted")
    assert report["judged"]["comparisons"] == report["comparisons"]
    assert "80.0% against 75.0% for System 2 and 25.0% for System 1" in report["verdict"]["reason"]
    assert set(report["arms"]["student"]["by_group"]["even"]) == {*SUBSETS, "all"}


def test_the_judge_is_shown_with_its_own_consistency_and_the_ceiling(judged_run: RunFolders) -> None:
    judged = report_of(recipe(**JUDGE), Toy(labelled=False), judged_run)["judged"]
    # Two of five verdicts on one of four pairs depend on the order, or are not given.
    assert (judged["consistency"]["value"], judged["consistency"]["n"]) == (pytest.approx(0.9), 480)
    assert judged["failed"] == 24
    assert judged["ceiling"]["value"] == 0.75
    for page in pages(judged_run):
        assert "90.0%" in page and "What a judge prefers" in page and "asked again" in page


def test_references_decide_where_there_are_some(tmp_path: Path, judged_run: RunFolders) -> None:
    run = write_run(tmp_path / "labelled", Toy(), ARMS[:3])
    judged_run.judged.rename(run.judged)
    report = report_of(recipe(**JUDGE), Toy(), run)
    assert report["arms"]["student"]["subsets"]["all"]["scored_against"] == "reference"
    assert report["comparisons"]["student_vs_teacher"]["all"]["first_only"] == 12
    assert report["judged"]["comparisons"]["student_vs_base"]["all"]["first_only"] == 80


def test_a_judge_that_is_no_better_than_a_coin_is_called_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(labelled=False), ARMS[:3])
    pairs = [("base", "teacher"), ("student", "teacher"), (AGAIN, "teacher"), ("student", "base")]
    write_judged(run.judged, {pair: [FICKLE] for pair in pairs})
    report = report_of(recipe(**JUDGE), Toy(labelled=False), run)
    assert any("says the same in both orders on 0% of 480 pairs" in note for note in report["notes"])
