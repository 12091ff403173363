"""The overview of a run that has several reports: one line for each part of a mixture, in each round.

It is drawn from the parts' report.json alone, and says why no further round is run.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from s2d_ray.arms import CORE_ARMS
from s2d_ray.data.files import write_json, write_text
from s2d_ray.data.folders import RunFolders
from s2d_ray.display.formatting import points
from s2d_ray.evaluation.metrics import ALL
from s2d_ray.evaluation.statistics import Paired
from s2d_ray.evaluation.verdict import is_gain
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.report.render import overview_html, overview_markdown
from s2d_ray.report.schema import Overview, OverviewLine, Report, Rounds, read_report

RoundFolders = Mapping[str, RunFolders]
"""Part → its folders, in one round."""


def write_overview(recipe: AnyRecipe, rounds: Sequence[RoundFolders], folder: Path) -> Overview:
    """Write overview.json, .md and .html to `folder` and return what overview.json holds.

    `rounds` are those that have their reports, from the first on. Raises UserError where another version of this
    package wrote one of these.
    """
    reports = [reports_of(parts) for parts in rounds]
    lines = [
        _line(number, part, report, os.path.relpath(str(parts[part].report / "report.html"), str(folder)))
        for number, (parts, of_round) in enumerate(zip(rounds, reports, strict=True), 1)
        for part, report in of_round.items()
    ]
    overview = Overview(
        recipe=recipe.name,
        description=recipe.description,
        model=recipe.model,
        lines=tuple(lines),
        rounds=Rounds(wanted=recipe.rounds, run=len(rounds), outcome=_outcome(recipe.rounds, reports)),
        settings=recipe.model_dump(mode="json"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "overview.json", overview.model_dump(mode="json"))
    write_text(folder / "overview.md", overview_markdown(overview))
    write_text(folder / "overview.html", overview_html(overview))
    return overview


def reports_of(parts: RoundFolders) -> dict[str, Report]:
    """Part → its report, of those parts that have one. Raises as `read_report`."""
    paths = {part: folders.report / "report.json" for part, folders in parts.items()}
    return {part: read_report(path) for part, path in paths.items() if path.exists()}


def gained(reports: Iterable[Report]) -> bool:
    """Whether a round's distilled model is significantly better than its base model on some part.

    By the prompts held out for that alone: rounds that were chosen by what the reports are of would flatter them.
    """
    return any(is_gain(report.validation) for report in reports if report.validation)


def _gain(report: Report) -> Paired | None:
    """The student against the base, which is the model's one-call answer before; None without a student."""
    return report.comparisons.get("student_vs_base", {}).get(ALL)


def _line(number: int, part: str, report: Report, link: str) -> OverviewLine:
    return OverviewLine(
        round=number,
        part=part,
        task=report.settings["task"]["name"],
        method=report.method,
        metric=report.metric,
        verdict=report.verdict.verdict,
        reason=report.verdict.reason,
        corpus=report.prompts.corpus,
        kept=report.prompts.kept,
        arms={arm: report.arms[arm].subsets[ALL] for arm in CORE_ARMS if arm in report.arms},
        gain=_gain(report),
        report=link,
    )


def _validated(reports: Mapping[str, Report]) -> str:
    """By how much each part's model is better, where that was measured."""
    found = [
        f"{part} {points(d.difference)} points, {points(d.low)} to {points(d.high)}, {d.n} prompts".strip()
        for part, report in reports.items()
        if (d := report.validation)
    ]
    return f" ({'; '.join(found)})" if found else ""


def _outcome(wanted: int, reports: Sequence[Mapping[str, Report]]) -> str:
    """Why there is no further round, or that there is one; empty where one round was wanted."""
    number = len(reports)
    if wanted == 1:
        return ""
    if not gained(reports[-1].values()):
        return (
            f"Round {number} gained nothing: its distilled model is not significantly better than its base model on "
            f"prompts held out to decide that{_validated(reports[-1])}, so none of the {wanted} rounds follows on it."
        )
    if number == wanted:
        return f"Round {number} gained something and was the last that the recipe asks for."
    return f"Round {number} gained something: round {number + 1} follows."
