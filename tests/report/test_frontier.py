"""The section of a report on less reasoning: accuracy against tokens, and what to ship."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.arms import label
from s2d_ray.data.folders import RunFolders
from s2d_ray.display.plots import unbeaten
from s2d_ray.evaluation.judging import AGAIN
from tests.report.test_beside import LOSES, TIES, WINS, write_judged
from tests.report.test_pages import Page
from tests.report.toy_run import ARMS, NOTHING_KEPT, Toy, recipe, report_of, write_run

CORE = ["base", "teacher", "student"]


def made(root: Path, targets: Sequence[str], arms: Sequence[str] = CORE, **settings: Any) -> tuple[Any, RunFolders]:
    """report.json of a run with students on these targets, and its folders."""
    run = write_run(root / "toy", Toy(), [*arms, *(f"student_{target}" for target in targets)], **settings)
    return report_of(recipe(evaluate={"targets": targets, "examples": 2}), Toy(), run), run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, RunFolders]:
    return made(tmp_path_factory.mktemp("run"), ["shortest", "shortened", "internalised"], ARMS)


def test_every_arm_that_may_take_system_2_s_place_has_its_point(toy: tuple[Any, RunFolders]) -> None:
    report, _ = toy
    found, arms = report["frontier"], report["arms"]
    for arm, point in found["points"].items():
        assert point["score"] == arms[arm]["subsets"]["all"]
    assert found["teacher"] == arms["teacher"]["subsets"]["all"]
    assert {arm: point["standing"] for arm, point in found["points"].items()} == {
        "base": "worse",
        "student": "not worse",
        "student_shortest": "not worse",
        "student_shortened": "worse",
        "student_internalised": "not worse",
    }
    assert (found["ship"], found["conclusion"]) == ("student_internalised", label("student_internalised"))
    adjusted = report["comparisons"]["student_shortest_vs_teacher"]["all"]
    point = found["points"]["student_shortest"]["to_teacher"]
    assert adjusted | {"adjusted": None} == point, "one of many there, and the same figures"


def test_the_verdict_stays_about_the_student(toy: tuple[Any, RunFolders], report: Any) -> None:
    with_targets, _ = toy
    assert with_targets["verdict"] == report["verdict"]
    assert with_targets["ledger"] == report["ledger"]


def test_a_report_without_such_arms_has_no_such_section(report: Any, html: str, run: RunFolders) -> None:
    assert report["frontier"] is None
    for text in (html, (run.report / "report.md").read_text()):
        assert "Less reasoning" not in text


def test_both_texts_say_what_to_ship_and_how(toy: tuple[Any, RunFolders]) -> None:
    report, run = toy
    html, short = ((run.report / f"report.{kind}").read_text() for kind in ("html", "md"))
    page = Page()
    page.feed(html)
    assert page.open == []
    for text in (html, short):
        assert "Distilled, internalised" in text.partition("To ship:")[2][:80]
        assert report["frontier"]["reason"] in text
        assert "curate.target: shortest with train.internalise: {} makes this arm that" in text
    rows = [line for line in short.partition("## Less reasoning")[2].splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[1] for row in rows[1:7]] == ["4.0", "4.0", "12.0", "8.0", "2.0", "30.0"]
    assert "other targets: train" in html
    assert report["seconds"]["target_train"] == 3 * report["seconds"]["train"]
    assert "target_generate" not in report["seconds"]


def test_the_plot_marks_every_arm_and_the_one_to_ship(toy: tuple[Any, RunFolders]) -> None:
    _, run = toy
    html = (run.report / "report.html").read_text()
    section = html.partition("Less reasoning")[2]
    svg = section[section.index("<svg") : section.index("</svg>") + 6]
    texts = [text for element in ElementTree.fromstring(svg.replace("xlink:", "")).iter() if (text := element.text)]
    for arm in ("base", "teacher", "student", "student_shortest", "student_shortened", "student_internalised"):
        assert label(arm) in texts
    assert {"to ship", "System 2 less the margin", "generated tokens per answer"} <= set(texts)


def test_how_to_ship_leaves_the_trace_where_the_student_loses_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), [*CORE, "student_shortest"], untrained=["student"])
    own = {"curate": {"target": "shortest"}, "train": {"internalise": {}}}
    report_of(recipe(evaluate={"targets": ["shortest"]}, **own), Toy(), run)
    for page in (run.report / f"report.{kind}" for kind in ("html", "md")):
        assert "curate.target: shortest with train.internalise: null makes this arm that" in page.read_text()


def test_where_none_is_good_enough_system_2_stays(tmp_path: Path) -> None:
    report, run = made(tmp_path, ["shortened"], untrained=["student"])
    assert (report["frontier"]["ship"], list(report["frontier"]["points"])) == (None, ["base", "student_shortened"])
    html, short = ((run.report / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "To ship: **none of them: keep System 2**. No arm with fewer tokens is sure" in short
    assert "makes this arm that" not in html + short
    section = html.partition("Less reasoning")[2]
    assert ">to ship<" not in section


def test_the_prompts_that_decide_draw_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), [*CORE, "student_shortest"])
    report = report_of(recipe(evaluate={"targets": ["shortest"], "decides": ["plain"]}), Toy(), run)
    found = report["frontier"]["points"]["student_shortest"]
    assert found["score"] == report["arms"]["student_shortest"]["subsets"]["plain"]
    assert found["to_teacher"]["n"] == 40
    # Forty prompts are too few to tell.
    assert (found["standing"], report["frontier"]["ship"]) == ("open", "student")


def test_where_a_judge_decides_its_preferences_draw_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(labelled=False), [*CORE, "student_shortest"])
    verdicts: dict[tuple[str, str], list[tuple[str | None, str | None]]] = {
        ("base", "teacher"): [LOSES],
        ("student", "teacher"): [LOSES, TIES],
        ("student_shortest", "teacher"): [TIES],
        (AGAIN, "teacher"): [TIES],
        ("student", "base"): [WINS],
    }
    write_judged(run.judged, verdicts)
    asked = recipe(evaluate={"targets": ["shortest"], "judge": {"method": "bsm"}})
    found = report_of(asked, Toy(labelled=False), run)["frontier"]
    points = {
        arm: (point["score"]["accuracy"], point["to_teacher"]["difference"]) for arm, point in found["points"].items()
    }
    assert points == {"base": (0, -1), "student": (0.5, -0.5), "student_shortest": (1, 0)}
    assert (found["teacher"]["accuracy"], found["ship"]) == (1, "student_shortest")


def test_a_target_of_which_nothing_was_kept_is_absent_with_a_note(tmp_path: Path) -> None:
    report, run = made(tmp_path, ["shortest", "shortened"], untrained=["student_shortened"])
    assert report["notes"][0] == f"Distilled, shortened trace is absent. {NOTHING_KEPT}"
    assert "student_shortened" not in report["frontier"]["points"]
    assert NOTHING_KEPT in (run.report / "report.md").read_text()


@pytest.mark.parametrize(
    ("settings", "said", "intermediate"),
    [
        ({}, "the answers that System 2 agreed with itself on", True),
        ({"curate": {"target": "shortest"}}, "the shortest of System 2&#39;s traces", False),
        ({"curate": {"target": "shortest"}, "train": {"internalise": {}}}, "first tokens were taken away", False),
    ],
)
def test_the_page_says_what_the_student_learned(
    tmp_path: Path, settings: dict[str, Any], said: str, intermediate: bool
) -> None:
    run = write_run(tmp_path / "toy", Toy(), CORE)
    report_of(recipe(evaluate={"controls": False}, **settings), Toy(), run)
    html = (run.report / "report.html").read_text()
    [told] = [line for line in html.splitlines() if line.startswith(f"<dt>{label('student')}</dt>")]
    assert said in told
    assert ("no intermediate text" in told) == intermediate


def test_a_line_joins_what_no_other_beats() -> None:
    beaten = [(50, 0.5), (4, 0.1), (60, 0.4)]
    assert unbeaten([(4, 0.2), (90, 0.8), *beaten, (40, 0.5)]) == [(4, 0.2), (40, 0.5), (90, 0.8)]
    assert unbeaten([(3, 0.9), (90, 0.8)]) == [(3, 0.9)]
