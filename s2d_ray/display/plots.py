"""The report's plots as SVG texts, the same for the same figures."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import nan
from typing import Any, Protocol

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from s2d_ray.arms import label
from s2d_ray.display.drawing import (
    FAILED,
    HAIRLINE,
    INK,
    KEPT,
    LOOKS,
    MUTED,
    REJECTED,
    STYLE,
    Look,
    as_svg,
    legend_columns,
    legend_handle,
    looks_of,
)
from s2d_ray.display.formatting import percent, tokens
from s2d_ray.display.interval import Estimate

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


def arms(scores: Mapping[str, Mapping[str, Scored]], measure: str) -> str:
    """Scores, called `measure`, and generated tokens of every arm by subset, with 95% intervals."""
    looks = looks_of(scores)
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
        handles = [legend_handle(look, label(arm)) for arm, look in looks.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(len(handles)), frameon=False)
        return as_svg(figure)


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
        return as_svg(figure)


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
        return as_svg(figure)


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
        figure.legend(loc="outside upper left", ncols=legend_columns(len(curves)), frameon=False)
        return as_svg(figure)


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
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
        return as_svg(figure)


def frontier(scores: Mapping[str, Scored], margin: float, ship: str | None, measure: str) -> str:
    """Scores, called `measure`, with 95% intervals against generated tokens; a line joins those that no other beats.

    `teacher` is among the arms. Of the others, `ship` is ringed.
    """
    looks = looks_of(scores)
    places = {arm: (s.tokens_per_answer, s.accuracy) for arm, s in scores.items() if s.tokens_per_answer}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*unbeaten(places.values()), strict=True), color=MUTED, linewidth=1, zorder=1)
        for arm, (x, y) in places.items():
            axes.plot([x, x], [scores[arm].low, scores[arm].high], color=looks[arm].colour, linewidth=1.4)
            axes.plot(x, y, looks[arm].marker, color=looks[arm].colour, markersize=7, clip_on=False)
            if arm == ship:
                axes.plot(x, y, "o", color=KEPT, markerfacecolor="none", markersize=16, label="to ship")
        floor = scores["teacher"].accuracy - margin
        axes.axhline(floor, color=FAILED, linewidth=1, linestyle=(0, (3, 1.5)), label="System 2 less the margin")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("generated tokens per answer")
        axes.set_ylabel(measure)
        axes.grid()
        arms = [legend_handle(looks[arm], label(arm)) for arm in places]
        handles = [*arms, *axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(len(handles)), frameon=False)
        return as_svg(figure)


def unbeaten(places: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of pairs (cost, worth) those that no other one equals or beats in both, by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, worth in sorted(places, key=lambda place: (place[0], -place[1])):
        if not found or worth > found[-1][1]:
            found.append((cost, worth))
    return found


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


def _named(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ordered[REASONS:])
    return ordered[:REASONS] + ([("other reasons", rest)] if rest else [])


def _short(label: str) -> str:
    # A dollar sign would start a formula.
    text = " ".join(label.split()).replace("$", r"\$")
    return text if len(text) <= 48 else f"{text[:47]}…"
