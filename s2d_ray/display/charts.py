"""Estimates with their intervals over time, as coordinates: `chart.html.j2` draws them as SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from s2d_ray.display.interval import Estimate

WIDTH, HEIGHT = 480.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 10.0, 26.0
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
MARKS = 5
"""Steps at most on an axis."""

Series = Sequence[tuple[float, Estimate]]
"""Seconds since the start, and the estimate then; oldest first."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One estimate over time."""

    name: str
    points: str
    """Of a polyline: the estimate."""
    band: str
    """Of a polygon: its interval."""
    x: float
    """Of the latest estimate."""
    y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn, in a box of WIDTH by HEIGHT."""

    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    levels: Mapping[str, float]
    """Where the levels asked for are, from the top."""


def chart(series: Mapping[str, Series], seconds: float, levels: Mapping[str, float]) -> Chart | None:
    """Shares from the start to `seconds` later, scaled to their later half; None where there are none.

    Axes are in per cent; with `levels`, which are shares too, in points with their sign.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return None
    later = [estimate for points in drawn.values() for _, estimate in points[len(points) // 2 :]]
    marks = _marks(
        min([estimate.low for estimate in later] + list(levels.values())),
        max([estimate.high for estimate in later] + list(levels.values())),
    )
    x = _scale(0, seconds, LEFT, WIDTH - RIGHT)
    y = _scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP)
    return Chart(
        lines=[_line(name, points, x, y) for name, points in drawn.items()],
        x_ticks=[Tick(x(at), text) for at, text in _times(seconds)],
        y_ticks=[Tick(y(mark), _label(mark, signed=bool(levels))) for mark in marks],
        levels={name: y(value) for name, value in levels.items()},
    )


def _line(name: str, points: Series, x: Callable[[float], float], y: Callable[[float], float]) -> Line:
    middle = [(x(at), y(estimate.value)) for at, estimate in points]
    above = [(x(at), y(estimate.high)) for at, estimate in points]
    below = [(x(at), y(estimate.low)) for at, estimate in reversed(points)]
    return Line(name, _joined(middle), _joined([*above, *below]), *middle[-1])


def _label(share: float, signed: bool) -> str:
    percent = round(100 * share, 6)
    if signed and percent:
        return f"{percent:+g}".replace("-", "\N{MINUS SIGN}")
    return f"{percent:g}" if signed else f"{percent:g}%"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values between `low` and `high` to places between `start` and `end`; others are put at the edge."""

    def place(value: float) -> float:
        inside = min(max(value, low), high)
        return round(start + (end - start) * (inside - low) / (high - low), 1)

    return place


def _marks(low: float, high: float) -> list[float]:
    """Round values around a range."""
    step = _round_step(max(high - low, 0.01) / MARKS)
    return [step * i for i in range(floor(low / step + 1e-9), max(ceil(high / step - 1e-9), 1 + floor(low / step)) + 1)]


def _round_step(least: float) -> float:
    power = 10.0 ** floor(log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _times(seconds: float) -> list[tuple[float, str]]:
    """Round times since the start, in the largest unit that the range has two of."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 2 * size), UNITS[-1])
    step = max(1.0, _round_step(seconds / size / MARKS)) * size
    return [(step * i, f"{step * i / size:g} {unit}" if i else "0") for i in range(int(seconds / step) + 1)]
