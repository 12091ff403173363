"""A report as a page to look at and as a short text: presentation only, no figure is worked out here."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment
from markupsafe import Markup

from s2d_ray.arms import LABELS, is_further, label, target_of
from s2d_ray.display import plots
from s2d_ray.display.pages import environment
from s2d_ray.evaluation.frontier import Frontier
from s2d_ray.evaluation.metrics import ALL
from s2d_ray.evaluation.verdict import OPEN
from s2d_ray.report.figures import headline
from s2d_ray.report.schema import Overview, Report
from s2d_ray.report.sections import CalibratedCascade
from s2d_ray.tasks.general import SOURCE as GENERAL_SOURCE

POINTS = 12
"""Of a curve, in a table."""
TRAINED_ON = {
    "answer": "the answers that System 2 agreed with itself on",
    "shortest": "the shortest of System 2's traces to the answer on which it agreed",
    "shortened": "System 2's shortest trace to the answer on which it agreed, rewritten by it in fewer words",
    "internalised": "System 2's traces, whose first tokens were taken away step by step until the answer stood alone",
}
"""Target → what the model learns to say."""
SHIP_BY = {
    "answer": "curate.target: answer",
    "shortest": "curate.target: shortest",
    "shortened": "curate.target: shortened",
    "internalised": "curate.target: shortest with train.internalise: {}",
}
"""Target → what a recipe says to make it the student's."""
TONES = {"distils": "good", "partly": "mixed", OPEN: "mixed"}


def html_page(report: Report) -> str:
    """The report as one HTML file that needs nothing else: no script, no request, plots inlined."""
    drawn = {
        "arms": plots.arms({arm: s.subsets for arm, s in report.arms.items()}, _title(report.metric)),
        "prompts": plots.prompts(report.prompts),
        "votes": plots.votes(report.vote_shares),
        "loss": plots.loss({arm: trained.curve for arm, trained in report.training.items()}),
        "cascade": _cascade_plot(report.cascade) if report.cascade else "",
        "frontier": _frontier_plot(report, report.frontier) if report.frontier else "",
    }
    return (
        _environment(escape=True)
        .get_template("report/report.html.j2")
        .render(
            **_shown(report),
            plots={name: Markup(svg) for name, svg in drawn.items()},
            tone=TONES.get(report.verdict.verdict, "bad"),
            recipe_text=yaml.safe_dump(report.settings, sort_keys=False, allow_unicode=True),
        )
    )


def markdown_page(report: Report) -> str:
    """The report's verdict and tables as Markdown."""
    return _environment(escape=False).get_template("report/report.md.j2").render(**_shown(report))


def overview_html(overview: Overview) -> str:
    """The overview of several reports as one HTML file, with a link to each."""
    return _environment(escape=True).get_template("report/overview.html.j2").render(**_listed(overview), tones=TONES)


def overview_markdown(overview: Overview) -> str:
    """The overview as one Markdown table."""
    return _environment(escape=False).get_template("report/overview.md.j2").render(**_listed(overview))


def _listed(overview: Overview) -> dict[str, Any]:
    return {"o": overview, "arm_names": LABELS, "named_parts": any(line.part for line in overview.lines)}


def _shown(report: Report) -> dict[str, Any]:
    arms = report.arms
    scores = next(iter(arms.values()))
    return {
        "r": report,
        "arm_names": {arm: label(arm) for arm in arms},
        "subsets": list(scores.subsets),
        "groups": list(scores.by_group),
        "arm_scores": {arm: parts.subsets for arm, parts in arms.items()},
        "group_scores": {
            group: {arm: parts.by_group.get(group, {}) for arm, parts in arms.items()} for group in scores.by_group
        },
        "perturbed": [s for s in scores.subsets if any(parts.subsets[s].inconsistent for parts in arms.values())],
        "inconsistency": " under ".join(
            filter(None, (_title(report.inconsistency), " or ".join(report.perturbations)))
        ),
        "measure": _title(report.metric),
        "clustered": any(score.clusters < score.n for score in scores.subsets.values()),
        "agreement": scores.subsets[ALL].scored_against == "teacher",
        "ALL": ALL,
        "headline": headline(report.decides),
        "general_source": GENERAL_SOURCE,
        "trained_on": TRAINED_ON,
        "target": _target(report),
        "ship_by": _ship_by(report, report.frontier) if report.frontier else None,
    }


def _ship_by(report: Report, found: Frontier) -> str | None:
    """What a recipe says to make the arm to ship the student; None where it is no student on another target."""
    target = target_of(found.ship or "")
    if target is None:
        return None
    takes_away = report.settings["train"]["internalise"] is not None
    return SHIP_BY[target] + (" with train.internalise: null" if takes_away else "")


def _target(report: Report) -> str:
    """Of the student."""
    settings = report.settings
    return "internalised" if settings["train"]["internalise"] else str(settings["curate"]["target"])


def _cascade_plot(found: CalibratedCascade) -> str:
    at = found.calibration.at_threshold
    return plots.cascade(found.curve, found.calibration.target, at.coverage.value if at else None)


def _frontier_plot(report: Report, found: Frontier) -> str:
    scores = {arm: point.score for arm, point in found.points.items()} | {"teacher": found.teacher}
    return plots.frontier(scores, report.settings["evaluate"]["margin"], found.ship, _title(report.metric))


def _title(metric: str) -> str:
    return metric[0].upper() + metric[1:]


@cache
def _environment(escape: bool) -> Environment:
    found = environment(escape)
    found.filters |= {
        "arm": label,
        "versus": lambda name: " against ".join(label(arm) for arm in name.split("_vs_", 1)),
        "measure": {"logprob": "mean log-probability of the tokens", "votes": "share of the samples"}.get,
        "few": few,
        "stage": lambda key: (
            key.replace("control_", "controls: ")
            .replace("target_", "other targets: ")
            .replace("repeat_", "further seeds: ")
        ),
    }
    found.filters["target_of"] = target_of
    found.tests["further"] = is_further
    return found


def few(curve: Sequence[Any]) -> Sequence[Any]:
    """Some points of a curve, evenly spread, its last one among them."""
    return list(reversed(curve[:: -max(1, -(-len(curve) // POINTS))]))
