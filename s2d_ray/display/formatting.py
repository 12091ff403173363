"""How numbers are written, in every report, page and sentence."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from s2d_ray.display.interval import Estimate


def percent(share: float) -> str:
    """A share in per cent, without the sign: tables have it in their heads."""
    return f"{100 * share:.1f}"


def round_percent(share: float) -> str:
    """A share that somebody chose, in per cent with the sign and no more digits than it has."""
    return f"{100 * share:.3g}%"


def points(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """The chance of a test, down to one in a thousand."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def of_clusters(n: int, clusters: int) -> str:
    """How many observations there are, and in how many clusters where several share one."""
    return count(n) if clusters == n else f"{count(n)} in {count(clusters)} clusters"


def count(number: float | None) -> str:
    """A number with its thousands set apart; `none` where there is no number."""
    return "none" if number is None else f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def tokens(number: float | None, unknown: str = "unknown") -> str:
    """A mean number of tokens; `unknown` where there is none."""
    return unknown if number is None else f"{number:.1f}"


def duration(seconds: float) -> str:
    """How long a stage took, as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def latency(seconds: float) -> str:
    """How long an answer takes, to three digits."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def times(more: Estimate | None, less: Estimate | None) -> str | None:
    """How many times as much the first is as the second, None where that says nothing."""
    if more is None or less is None or less.value <= 0:
        return None
    ratio = more.value / less.value
    return f"{ratio:.0f}" if ratio >= 9.5 else f"{ratio:.1f}"


def significant(number: float) -> str:
    """A number to three digits."""
    return f"{number:.3g}"


def moment(at: datetime) -> str:
    """A time, to the minute and in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "share": round_percent,
    "points": points,
    "p_value": p_value,
    "count": count,
    "of_clusters": of_clusters,
    "tokens": tokens,
    "duration": duration,
    "seconds": latency,
    "confidence": significant,
    "money": significant,
    "moment": moment,
}
"""What a template calls a value by → how it is written."""
