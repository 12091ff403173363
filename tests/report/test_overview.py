"""The overview of several reports, made from reports of small run folders."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe
from s2d_ray.report.overview import gained, reports_of, write_overview
from s2d_ray.report.report import write_report
from s2d_ray.report.schema import Overview
from tests.report.toy_run import ARMS, RECIPE, Toy, write_run

PARTS = {"cities": {"task": "toy", "method": "s2a"}, "letters": {"task": "toy", "method": "rar2"}}
MIXTURE = Mixture.model_validate({"name": "both", "description": "two <tasks>", "model": "tiny", "parts": PARTS})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolders]:
    """Two finished runs under one folder, each with its report."""
    root = tmp_path_factory.mktemp("runs")
    runs = {name: write_run(root / name, Toy(), ARMS[:3]) for name in PARTS}
    for folders in runs.values():
        write_report(RECIPE.model_copy(update={"rounds": 2}), Toy(), folders)
    return runs


def overview(recipe: AnyRecipe, folder: Path, *rounds: dict[str, RunFolders]) -> dict[str, Any]:
    written = write_overview(recipe, rounds, folder)
    content: dict[str, Any] = json.loads((folder / "overview.json").read_text())
    assert Overview.model_validate(content) == written
    return content


def test_a_mixture_has_a_line_for_each_part_with_its_reports_figures(
    runs: dict[str, RunFolders], tmp_path: Path
) -> None:
    made = overview(MIXTURE, tmp_path, runs)
    assert [(line["round"], line["part"]) for line in made["lines"]] == [(1, "cities"), (1, "letters")]
    for line in made["lines"]:
        report = json.loads((runs[line["part"]].report / "report.json").read_text())
        assert (line["verdict"], line["reason"]) == (report["verdict"]["verdict"], report["verdict"]["reason"])
        assert list(line["arms"]) == ["base", "teacher", "student"]
        for arm, score in line["arms"].items():
            assert score == report["arms"][arm]["subsets"]["all"]
        assert line["gain"] == report["comparisons"]["student_vs_base"]["all"]
        assert (line["kept"], line["corpus"]) == (report["prompts"]["kept"], report["prompts"]["corpus"])
        assert (tmp_path / line["report"]).resolve() == runs[line["part"]].report / "report.html"
    assert made["rounds"]["outcome"] == "", "one round only was wanted"


def test_both_pages_show_every_line(runs: dict[str, RunFolders], tmp_path: Path) -> None:
    made = overview(MIXTURE, tmp_path, runs)
    text, page = ((tmp_path / f"overview.{kind}").read_text() for kind in ("md", "html"))
    assert "two &lt;tasks&gt;" in page
    assert "<tasks>" not in page
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1, "every row has all columns"
    assert len(rows) == 2 + len(made["lines"])
    for line, row in zip(made["lines"], rows[2:], strict=True):
        score = line["arms"]["student"]
        figures = [
            f"{100 * score['accuracy']:.1f}",
            f"{score['tokens_per_answer']:.1f}",
            line["part"],
            line["verdict"],
            line["metric"],
        ]
        for shown in (*figures, line["report"], f"{100 * line['gain']['difference']:+.1f}"):
            assert shown in row
            assert shown in page


@pytest.mark.parametrize(
    ("wanted", "run", "outcome"),
    [(3, 1, "Round 1 gained something: round 2 follows."), (2, 2, "Round 2 gained something and was the last")],
)
def test_rounds_are_lines_and_the_outcome_says_what_follows(
    runs: dict[str, RunFolders], tmp_path: Path, wanted: int, run: int, outcome: str
) -> None:
    recipe = Recipe.model_validate({"name": "toy", "model": "tiny", "task": "toy", "method": "s2a", "rounds": wanted})
    made = overview(recipe, tmp_path, *[{"": runs["cities"]}] * run)
    assert [line["round"] for line in made["lines"]] == list(range(1, run + 1))
    assert made["rounds"]["outcome"].startswith(outcome)
    for kind in ("md", "html"):
        assert outcome in (tmp_path / f"overview.{kind}").read_text()


def test_a_round_without_gain_is_said_to_be_the_last(runs: dict[str, RunFolders], tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "toy", "model": "tiny", "task": "toy", "method": "s2a", "rounds": 3})
    report = json.loads((runs["cities"].report / "report.json").read_text())
    assert gained(reports_of({"": runs["cities"]}).values())
    report["validation"] |= {"p_value": 0.2}
    same = RunFolders(tmp_path / "same")
    same.report.mkdir(parents=True)
    (same.report / "report.json").write_text(json.dumps(report))
    assert not gained(reports_of({"": same}).values())
    made = overview(recipe, tmp_path, {"": runs["cities"]}, {"": same})
    assert made["rounds"] | {"outcome": ""} == {"wanted": 3, "run": 2, "outcome": ""}
    assert made["rounds"]["outcome"].startswith("Round 2 gained nothing: its distilled model is not significantly")
