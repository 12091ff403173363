"""The report's plots as SVG texts, the same for the same figures.

Colours are Okabe and Ito's, which people of every colour vision tell apart; arms differ in shape as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from s2d_ray.arms import is_further, label

INK, MUTED, HAIRLINE = "#1c2430", "#66717d", "#dfe3e8"
KEPT, REJECTED, FAILED = "#009E73", "#E69F00", "#D55E00"
NOT_SUBSETS = ("by_group", "tokens_per_answer")
"""Keys of an arm in report.json that are no subset."""
REASONS = 8
"""Reasons named in a plot; the rest are added up."""


class Look(NamedTuple):
    """How one arm is drawn."""

    colour: str
    marker: str
    filled: bool


LOOKS = {
    "base": Look("#7d8791", "o", True),
    "teacher": Look("#0072B2", "s", True),
    "student": Look("#D55E00", "D", True),
    "student_of_base": Look("#7d8791", "^", False),
    "student_uncurated": Look("#0072B2", "v", False),
}
FURTHER_COLOUR, FURTHER_MARKERS = "#56B4E9", "PXph*8"
"""Of System 2 methods beside the distilled one: System 2's colour but lighter, a shape for each."""
LEGEND_COLUMNS = 6
"""What fits beside each other."""
STYLE: Any = {
    # Text stays text: it can be searched and read aloud, and the file stays small.
    "svg.fonttype": "none",
    "svg.hashsalt": "s2d_ray",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": HAIRLINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def arms(scores: Mapping[str, Any], measure: str) -> str:
    """Scores, called `measure`, and generated tokens of every arm by subset, with 95% intervals.

    `scores` are `arms` of report.json.
    """
    looks = _looks(scores)
    subsets = [key for key in next(iter(scores.values())) if key not in NOT_SUBSETS]
    rows = len(subsets) * (len(scores) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.0 + 0.2 * rows), layout=ConstrainedLayoutEngine(h_pad=0.1))
        accuracy, tokens = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        for block, subset in enumerate(subsets):
            for place, (arm, parts) in enumerate(scores.items()):
                y = block * (len(scores) + 1) + place
                _accuracy_row(accuracy, y, parts[subset], looks[arm])
                _tokens_row(tokens, y, parts[subset], looks[arm])
        _arms_axes(accuracy, tokens, subsets, len(scores), measure)
        handles = [_handle(look, label(arm)) for arm, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), LEGEND_COLUMNS), frameon=False)
        return _svg(figure)


def prompts(counts: Mapping[str, Any]) -> str:
    """Where the prompts of the corpus went; `prompts` of report.json."""
    bars = [("kept", counts["kept"], KEPT)]
    bars += [(f"rejected: {reason}", n, REJECTED) for reason, n in _named(counts["rejected"])]
    bars += [(f"failed: {reason}", n, FAILED) for reason, n in _named(counts["failed"])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.9 + 0.34 * len(bars)), layout="constrained")
        axes = figure.subplots()
        places = range(len(bars))
        axes.barh(places, [n for _, n, _ in bars], color=[colour for *_, colour in bars], height=0.62)
        for y, (_, n, _) in enumerate(bars):
            axes.annotate(f"{n}  ({n / max(1, counts['corpus']):.1%})", (n, y), (5, 0), va="center", **_OFFSET)
        axes.set_yticks(places, [_short(label) for label, *_ in bars])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(1, *(n for _, n, _ in bars)))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel(f"prompts, of {counts['corpus']} in the corpus")
        axes.grid(axis="x")
        return _svg(figure)


def votes(shares: Mapping[str, Mapping[str, int]]) -> str:
    """How large the winning answer's share of the votes was; `vote_shares` of report.json."""
    values = sorted({float(share) for counts in shares.values() for share in counts})
    if not values:
        return ""
    gaps = [b - a for a, b in pairwise(values)]
    width = 0.7 * min([0.2, *gaps])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.6), layout="constrained")
        axes = figure.subplots()
        below = [0] * len(values)
        for status, colour in (("kept", KEPT), ("rejected", REJECTED)):
            counted = {float(share): n for share, n in shares[status].items()}
            heights = [counted.get(value, 0) for value in values]
            axes.bar(values, heights, width, bottom=below, color=colour, label=status)
            below = [a + b for a, b in zip(below, heights, strict=True)]
        axes.set_xlim(0, 1 + width)
        if len(values) <= 8:
            axes.set_xticks(values)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("share of the samples that gave the winning answer")
        axes.set_ylabel("prompts")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return _svg(figure)


def loss(training: Mapping[str, Any]) -> str:
    """Training loss by optimizer step of every trained arm; `training` of report.json."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for arm, trained in training.items():
            steps, losses = zip(*((point["step"], point["loss"]) for point in trained["curve"]), strict=True)
            line = (
                {"linewidth": 2.0, "zorder": 3} if LOOKS[arm].filled else {"linewidth": 1.2, "linestyle": (0, (3, 1.5))}
            )
            axes.plot(steps, losses, color=LOOKS[arm].colour, label=label(arm), **line)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss per target token")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=len(training), frameon=False)
        return _svg(figure)


def cascade(calibration: Mapping[str, Any]) -> str:
    """Agreement and accuracy of a cascade by the share of prompts that the student answers; `cascade` of report.json."""
    curve = sorted(calibration["curve"], key=lambda point: point["coverage"]["value"])
    coverage = [point["coverage"]["value"] for point in curve]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for key, name, colour in (("agreement", "agreement with System 2", KEPT), ("accuracy", "accuracy", INK)):
            if curve and all(point[key] for point in curve):
                low, value, high = ([point[key][end] for point in curve] for end in ("low", "value", "high"))
                axes.plot(coverage, value, color=colour, label=name)
                axes.fill_between(coverage, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(calibration["target"], color=FAILED, linewidth=1.2, linestyle=(0, (3, 1.5)), label="target")
        if calibration["at_threshold"]:
            axes.axvline(calibration["at_threshold"]["coverage"]["value"], color=MUTED, linewidth=1, label="threshold")
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the prompts that distilled System 1 answers")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid()
        figure.legend(loc="outside upper left", ncols=LEGEND_COLUMNS, frameon=False)
        return _svg(figure)


_OFFSET: Mapping[str, Any] = {"textcoords": "offset points", "fontsize": 8}


def _accuracy_row(axes: Axes, y: int, score: Mapping[str, Any], look: Look) -> None:
    axes.plot([score["low"], score["high"]], [y, y], color=look.colour, linewidth=1.6, solid_capstyle="butt")
    fill = look.colour if look.filled else "white"
    # A mark at 100 % would lose its right half at the edge.
    axes.plot(score["accuracy"], y, look.marker, color=look.colour, markerfacecolor=fill, markersize=5.5, clip_on=False)


def _tokens_row(axes: Axes, y: int, score: Mapping[str, Any], look: Look) -> None:
    mean = score["tokens_per_answer"]
    if mean is None:
        return
    fill = look.colour if look.filled else "white"
    axes.barh(y, mean, height=0.62, color=fill, edgecolor=look.colour, linewidth=1)
    axes.plot([score["tokens_low"], score["tokens_high"]], [y, y], color=INK, linewidth=1)
    axes.annotate(f"{mean:.1f}", (score["tokens_high"], y), (5, 0), va="center", **_OFFSET)


def _arms_axes(accuracy: Axes, tokens: Axes, subsets: Sequence[str], count: int, measure: str) -> None:
    accuracy.set_xlim(0, 1)
    accuracy.xaxis.set_major_formatter(PercentFormatter(1))
    accuracy.set_title(f"{measure}, with 95% interval")
    tokens.set_title("Generated tokens per answer")
    tokens.set_xlim(0, 1.15 * tokens.get_xlim()[1])
    for axes in (accuracy, tokens):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        for block in range(1, len(subsets)):
            axes.axhline(block * (count + 1) - 1, color=HAIRLINE, linewidth=1)
    accuracy.set_yticks([block * (count + 1) + (count - 1) / 2 for block in range(len(subsets))], subsets)
    accuracy.tick_params(axis="y", labelsize=10, labelcolor=INK)
    accuracy.set_ylim(len(subsets) * (count + 1) - 1, -1)


def _looks(arms: Iterable[str]) -> dict[str, Look]:
    markers = cycle(FURTHER_MARKERS)
    return {arm: Look(FURTHER_COLOUR, next(markers), True) if is_further(arm) else LOOKS[arm] for arm in arms}


def _handle(look: Look, name: str) -> Line2D:
    fill = look.colour if look.filled else "white"
    return Line2D([], [], color=look.colour, marker=look.marker, markerfacecolor=fill, markersize=5.5, label=name)


def _named(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ordered[REASONS:])
    return ordered[:REASONS] + ([("other reasons", rest)] if rest else [])


def _short(label: str) -> str:
    # A dollar sign would start a formula.
    text = " ".join(label.split()).replace("$", r"\$")
    return text if len(text) <= 48 else f"{text[:47]}…"


def _svg(figure: Figure) -> str:
    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), transparent=True
    )
    svg = buffer.getvalue()
    # Inside HTML the prolog and the namespaces mean nothing.
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
