"""What trainings with other seeds came to, beside the one that the report is about."""

from pathlib import Path
from typing import Any

import pytest

from s2d_ray.arms import repeated
from tests.report.toy_run import ARMS, RECIPE, Toy, recipe, report_of, write_run

TRAINED = ("student", "student_of_base", "student_uncurated")
SEEDED = [*ARMS, *(repeated(arm, number) for number in (2, 3) for arm in TRAINED)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    seeded = recipe(evaluate={"seeds": 3, "examples": 6})
    return report_of(seeded, Toy(), write_run(tmp_path_factory.mktemp("run") / "toy", Toy(), SEEDED))


def test_each_training_has_its_figure_and_the_first_is_the_reports(report: Any) -> None:
    found = report["repeats"]["accuracy"]
    assert set(found) == set(TRAINED)
    for arm, of_first in (("student", 0.7), ("student_of_base", 0.3), ("student_uncurated", 0.6)):
        assert found[arm]["all"]["values"] == pytest.approx([of_first, of_first - 0.1, of_first - 0.2])
        assert found[arm]["all"]["mean"] == pytest.approx(of_first - 0.1)
        assert found[arm]["all"]["deviation"] == pytest.approx(0.1)
        assert found[arm]["all"]["values"][0] == report["arms"][arm]["subsets"]["all"]["accuracy"]


def test_differences_are_of_trainings_with_the_same_seed(report: Any) -> None:
    differences = report["repeats"]["differences"]
    assert differences["student_vs_student_uncurated"]["all"]["values"] == pytest.approx([0.1] * 3)
    assert differences["student_vs_base"]["all"]["values"] == pytest.approx([0.5, 0.4, 0.3])
    assert "teacher_vs_base" not in differences


def test_each_training_has_its_verdict(report: Any) -> None:
    first, *others = report["repeats"]["verdicts"]
    assert first == report["verdict"]["verdict"] == "distils"
    assert others == ["distils", "partly"], "as good as System 2, and 10 points below it"
    assert (
        "Another seed would turn it: the 3 trainings come to distils; distils; partly." in report["verdict"]["caveats"]
    )


def test_the_rest_of_the_report_is_about_the_first_training_alone(report: Any, tmp_path: Path) -> None:
    alone = report_of(RECIPE, Toy(), write_run(tmp_path / "toy", Toy()))
    assert alone["repeats"] is None
    assert alone["verdict"]["caveats"][-1].startswith("One training of each arm was run")
    for verdict in (report["verdict"], alone["verdict"]):
        verdict.pop("caveats")
    for section in ("arms", "verdict", "comparisons", "examples", "majority", "training"):
        assert report[section] == alone[section]
    assert report["seconds"].pop("repeat_train") == 6 * 30.0
    assert report["seconds"] == alone["seconds"]


def test_both_pages_show_the_spread(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), SEEDED)
    report_of(recipe(evaluate={"seeds": 3, "examples": 6}), Toy(), run)
    for page in ("report.html", "report.md"):
        text = (run.report / page).read_text()
        assert "50.0 to 70.0" in text
        assert "distils; distils; partly" in text


def test_an_arm_that_had_nothing_to_train_on_is_not_among_them(tmp_path: Path) -> None:
    arms = [arm for arm in SEEDED if not arm.startswith("student@")]
    made = report_of(RECIPE, Toy(), write_run(tmp_path / "toy", Toy(), arms, untrained=["student"]))
    assert set(made["repeats"]["accuracy"]) == {"student_of_base", "student_uncurated"}
    assert made["repeats"]["verdicts"] == []


def test_a_training_that_the_recipe_no_longer_asks_for_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy())
    run.repeat(2).model.mkdir(parents=True)
    assert report_of(RECIPE, Toy(), run)["repeats"] is None
