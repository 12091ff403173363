"""The report's plots as SVG texts, the same for the same figures.

Colours are Okabe and Ito's, which people of every colour vision tell apart; arms differ in shape as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from itertools import cycle, pairwise
from math import nan
from typing import Any, NamedTuple, Protocol

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from s2d_ray.arms import is_further, label
from s2d_ray.display.formatting import percent, tokens
from s2d_ray.display.interval import Estimate

INK, MUTED, HAIRLINE = "#1c2430", "#66717d", "#dfe3e8"
KEPT, REJECTED, FAILED = "#009E73", "#E69F00", "#D55E00"
REASONS = 8
"""Reasons named in a plot; the rest are added up."""


class Scored(Protocol):
    """What one arm scored on one subset; shares and tokens with the ends of their intervals."""

    @property
    def accuracy(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def tokens_per_answer(self) -> float | None: ...

    @property
    def tokens_low(self) -> float | None: ...

    @property
    def tokens_high(self) -> float | None: ...


class Counts(Protocol):
    """Where the prompts of a corpus went, with reasons."""

    @property
    def corpus(self) -> int: ...

    @property
    def kept(self) -> int: ...

    @property
    def rejected(self) -> Mapping[str, int]: ...

    @property
    def failed(self) -> Mapping[str, int]: ...


class Votes(Protocol):
    """Share of the votes, as a text, → prompts."""

    @property
    def kept(self) -> Mapping[str, int]: ...

    @property
    def rejected(self) -> Mapping[str, int]: ...


class Loss(Protocol):
    """The loss of one optimizer step; None where it was not finite."""

    @property
    def step(self) -> int: ...

    @property
    def loss(self) -> float | None: ...


class Threshold(Protocol):
    """A cascade at one threshold."""

    @property
    def coverage(self) -> Estimate: ...

    @property
    def agreement(self) -> Estimate: ...

    @property
    def accuracy(self) -> Estimate | None: ...


class Look(NamedTuple):
    """How one arm is drawn."""

    colour: str
    marker: str
    filled: bool


LOOKS = {
    "base": Look("#7d8791", "o", True),
    "base_few_shot": Look("#7d8791", "<", True),
    "teacher": Look("#0072B2", "s", True),
    "student": Look("#D55E00", "D", True),
    "student_of_base": Look("#7d8791", "^", False),
    "student_uncurated": Look("#0072B2", "v", False),
}
FURTHER_COLOUR, FURTHER_MARKERS = "#56B4E9", "PXph*8"
"""Of System 2 methods beside the distilled one: System 2's colour but lighter, a shape for each."""
LEGEND_COLUMNS = 5
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


def arms(scores: Mapping[str, Mapping[str, Scored]], measure: str) -> str:
    """Scores, called `measure`, and generated tokens of every arm by subset, with 95% intervals."""
    looks = _looks(scores)
    subsets = list(next(iter(scores.values())))
    rows = len(subsets) * (len(scores) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.0 + 0.2 * rows), layout=ConstrainedLayoutEngine(h_pad=0.1))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
        for block, subset in enumerate(subsets):
            for place, (arm, parts) in enumerate(scores.items()):
                y = block * (len(scores) + 1) + place
                _accuracy_row(left, y, parts[subset], looks[arm])
                _tokens_row(right, y, parts[subset], looks[arm])
        _arms_axes(left, right, subsets, len(scores), measure)
        handles = [_handle(look, label(arm)) for arm, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), LEGEND_COLUMNS), frameon=False)
        return _svg(figure)


def prompts(counts: Counts) -> str:
    """Where the prompts of the corpus went."""
    bars = [("kept", counts.kept, KEPT)]
    bars += [(f"rejected: {reason}", n, REJECTED) for reason, n in _named(counts.rejected)]
    bars += [(f"failed: {reason}", n, FAILED) for reason, n in _named(counts.failed)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.9 + 0.34 * len(bars)), layout="constrained")
        axes = figure.subplots()
        places = range(len(bars))
        axes.barh(places, [n for _, n, _ in bars], color=[colour for *_, colour in bars], height=0.62)
        for y, (_, n, _) in enumerate(bars):
            axes.annotate(f"{n}  ({percent(n / max(1, counts.corpus))}%)", (n, y), (5, 0), va="center", **_OFFSET)
        axes.set_yticks(places, [_short(label) for label, *_ in bars])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(1, *(n for _, n, _ in bars)))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel(f"prompts, of {counts.corpus} in the corpus")
        axes.grid(axis="x")
        return _svg(figure)


def votes(shares: Votes) -> str:
    """How large the winning answer's share of the votes was; empty where no rule voted."""
    values = sorted({float(share) for counts in (shares.kept, shares.rejected) for share in counts})
    if not values:
        return ""
    gaps = [b - a for a, b in pairwise(values)]
    width = 0.7 * min([0.2, *gaps])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.6), layout="constrained")
        axes = figure.subplots()
        below = [0] * len(values)
        for status, counts, colour in (("kept", shares.kept, KEPT), ("rejected", shares.rejected, REJECTED)):
            counted = {float(share): n for share, n in counts.items()}
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


def loss(curves: Mapping[str, Sequence[Loss]]) -> str:
    """Training loss by optimizer step of every trained arm; empty where there is none."""
    if not curves:
        return ""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for arm, curve in curves.items():
            steps = [point.step for point in curve]
            losses = [nan if point.loss is None else point.loss for point in curve]
            line = (
                {"linewidth": 2.0, "zorder": 3} if LOOKS[arm].filled else {"linewidth": 1.2, "linestyle": (0, (3, 1.5))}
            )
            axes.plot(steps, losses, color=LOOKS[arm].colour, label=label(arm), **line)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss, mean over examples")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=len(curves), frameon=False)
        return _svg(figure)


def cascade(curve: Iterable[Threshold], target: float, chosen: float | None) -> str:
    """Agreement and accuracy of a cascade by its coverage, with the target and the coverage that was chosen."""
    rising = sorted(curve, key=lambda point: point.coverage.value)
    coverage = [point.coverage.value for point in rising]
    agreement = [point.agreement for point in rising]
    accuracy = [point.accuracy for point in rising if point.accuracy]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for name, estimates, colour in (("agreement with System 2", agreement, KEPT), ("accuracy", accuracy, INK)):
            if rising and len(estimates) == len(rising):
                low, high = [e.low for e in estimates], [e.high for e in estimates]
                axes.plot(coverage, [e.value for e in estimates], color=colour, label=name)
                axes.fill_between(coverage, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(target, color=FAILED, linewidth=1.2, linestyle=(0, (3, 1.5)), label="target")
        if chosen is not None:
            axes.axvline(chosen, color=MUTED, linewidth=1, label="threshold")
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the prompts that distilled System 1 answers")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid()
        figure.legend(loc="outside upper left", ncols=LEGEND_COLUMNS, frameon=False)
        return _svg(figure)


_OFFSET: Mapping[str, Any] = {"textcoords": "offset points", "fontsize": 8}


def _accuracy_row(axes: Axes, y: int, score: Scored, look: Look) -> None:
    axes.plot([score.low, score.high], [y, y], color=look.colour, linewidth=1.6, solid_capstyle="butt")
    fill = look.colour if look.filled else "white"
    # A mark at 100 % would lose its right half at the edge.
    axes.plot(score.accuracy, y, look.marker, color=look.colour, markerfacecolor=fill, markersize=5.5, clip_on=False)


def _tokens_row(axes: Axes, y: int, score: Scored, look: Look) -> None:
    mean, low, high = score.tokens_per_answer, score.tokens_low, score.tokens_high
    if mean is None or low is None or high is None:
        return
    fill = look.colour if look.filled else "white"
    axes.barh(y, mean, height=0.62, color=fill, edgecolor=look.colour, linewidth=1)
    axes.plot([low, high], [y, y], color=INK, linewidth=1)
    axes.annotate(tokens(mean), (high, y), (5, 0), va="center", **_OFFSET)


def _arms_axes(left: Axes, right: Axes, subsets: Sequence[str], count: int, measure: str) -> None:
    left.set_xlim(0, 1)
    left.xaxis.set_major_formatter(PercentFormatter(1))
    left.set_title(f"{measure}, with 95% interval")
    right.set_title("Generated tokens per answer")
    right.set_xlim(0, 1.15 * right.get_xlim()[1])
    for axes in (left, right):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        for block in range(1, len(subsets)):
            axes.axhline(block * (count + 1) - 1, color=HAIRLINE, linewidth=1)
    left.set_yticks([block * (count + 1) + (count - 1) / 2 for block in range(len(subsets))], subsets)
    left.tick_params(axis="y", labelsize=10, labelcolor=INK)
    left.set_ylim(len(subsets) * (count + 1) - 1, -1)


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
