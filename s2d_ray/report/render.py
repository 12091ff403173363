"""report.json as a page to look at and as a short text: presentation only, no figure is worked out here."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from s2d_ray.arms import CORE_ARMS, is_further, label
from s2d_ray.evaluation.metrics import ALL
from s2d_ray.report import plots

Report = Mapping[str, Any]
POINTS = 12
"""Of a curve, in a table."""
TONES = {"distils": "good", "partly": "mixed"}


def html_page(report: Report) -> str:
    """The report as one HTML file that needs nothing else: no script, no request, plots inlined."""
    drawn = {
        "arms": plots.arms(report["arms"], _title(report["metric"])),
        "prompts": plots.prompts(report["prompts"]),
        "votes": plots.votes(report["vote_shares"]),
        "loss": plots.loss(report["training"]) if report["training"] else "",
        "cascade": plots.cascade(report["cascade"]) if report["cascade"] else "",
    }
    return (
        _environment(escape=True)
        .get_template("report.html.j2")
        .render(
            **_shown(report),
            plots={name: Markup(svg) for name, svg in drawn.items()},
            tone=TONES.get(report["verdict"]["verdict"], "bad"),
            recipe_text=yaml.safe_dump(report["settings"], sort_keys=False, allow_unicode=True),
        )
    )


def markdown_page(report: Report) -> str:
    """The report's verdict and tables as Markdown."""
    return _environment(escape=False).get_template("report.md.j2").render(**_shown(report))


def overview_html(overview: Report) -> str:
    """The overview of several reports as one HTML file, with a link to each."""
    return _environment(escape=True).get_template("overview.html.j2").render(**_listed(overview), tones=TONES)


def overview_markdown(overview: Report) -> str:
    """The overview as one Markdown table."""
    return _environment(escape=False).get_template("overview.md.j2").render(**_listed(overview))


def _listed(overview: Report) -> dict[str, Any]:
    return {
        "o": overview,
        "arm_names": {arm: label(arm) for arm in CORE_ARMS},
        "named_parts": any(line["part"] for line in overview["lines"]),
    }


def _shown(report: Report) -> dict[str, Any]:
    arms = report["arms"]
    scores = next(iter(arms.values()))
    subsets = [key for key in scores if key not in plots.NOT_SUBSETS]
    return {
        "r": report,
        "arm_names": {arm: label(arm) for arm in arms},
        "subsets": subsets,
        "groups": list(scores["by_group"]),
        "arm_scores": arms,
        "group_scores": {
            group: {arm: parts["by_group"].get(group, {}) for arm, parts in arms.items()}
            for group in scores["by_group"]
        },
        "perturbed": [s for s in subsets if any(parts[s]["inconsistent"] for parts in arms.values())],
        "measure": _title(report["metric"]),
        "agreement": scores[ALL]["scored_against"] == "teacher",
        "ALL": ALL,
    }


def _title(metric: str) -> str:
    return metric[0].upper() + metric[1:]


def _environment(escape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("s2d_ray", "report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.1f}",
        "points": lambda share: f"{100 * share:+.1f}",
        "count": count,
        "tokens": lambda value: "unknown" if value is None else f"{value:.1f}",
        "duration": duration,
        "p_value": lambda p: "p < 0.001" if p < 0.001 else f"p = {p:.3f}",
        "arm": label,
        "versus": lambda name: " against ".join(label(arm) for arm in name.split("_vs_", 1)),
        "confidence": lambda value: f"{value:.3g}",
        "measure": {"logprob": "mean log-probability of the tokens", "votes": "share of the samples"}.get,
        "few": few,
        "stage": lambda key: key.replace("control_", "controls: "),
    }
    environment.tests["further"] = is_further
    return environment


def few(curve: Sequence[Any]) -> Sequence[Any]:
    """Some points of a curve, evenly spread, its last one among them."""
    return list(reversed(curve[:: -max(1, -(-len(curve) // POINTS))]))


def count(number: float | None) -> str:
    """A number with its thousands set apart; `none` where there is no number."""
    return "none" if number is None else f"{number:,.0f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
