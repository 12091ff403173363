"""Intervals and tests behind every figure of the report.

All are exact or solved from a formula, none resamples: the same answers always give the same report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
_Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its 95% interval, in the unit of the estimate."""

    value: float
    low: float
    high: float
    n: int
    """Observations behind it."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Two arms on the same prompts: the difference of their accuracies, first minus second."""

    difference: float
    """Of shares, between -1 and 1."""
    low: float
    """Lower end of Tango's 95% score interval."""
    high: float
    """Its upper end."""
    p_value: float
    """Exact McNemar test that both are right equally often, two-sided."""
    n: int
    """Prompts that both arms were scored on."""
    first_only: int
    """Prompts that only the first arm answers right."""
    second_only: int
    """Prompts that only the second arm answers right."""

    @property
    def significant(self) -> bool:
        """Whether chance alone would give such a difference less than once in twenty times."""
        return self.p_value < 1 - CONFIDENCE


def share(successes: int, n: int) -> Interval:
    """A share with its Wilson interval. Raises ValueError where `n` is 0 or below `successes`."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"no share of {successes} in {n}")
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / n, float(interval.low), float(interval.high), n)


def mean(values: Sequence[float]) -> Interval:
    """A mean of numbers that cannot be negative, with its t interval; one value alone has no width.

    Raises ValueError where there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no mean of no values")
    centre = float(np.mean(values))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else 0.0
    return Interval(centre, max(0.0, centre - reach), centre + reach, n)


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare two arms, given whether each was right on the same prompts in the same order.

    Raises ValueError where the two differ in length or are empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} results are no pairs")
    n = len(first)
    first_only = sum(a and not b for a, b in zip(first, second, strict=True))
    second_only = sum(b and not a for a, b in zip(first, second, strict=True))
    discordant = first_only + second_only
    p_value = float(stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0
    low, high = (_score_limit(first_only, second_only, n, end) for end in (-1.0, 1.0))
    return Paired((first_only - second_only) / n, low, high, p_value, n, first_only, second_only)


def _score_limit(first_only: int, second_only: int, n: int, end: float) -> float:
    """The limit towards `end` of Tango's score interval (Statistics in Medicine 17, 1998).

    Unlike the textbook interval it keeps a width where the arms never disagree, so that a handful of
    prompts cannot prove two arms equal.
    """

    def excess(delta: float) -> float:
        b = (2 * n - first_only + second_only) * delta - discordant
        root = max(0.0, b * b + 8 * n * second_only * delta * (1 - delta))
        restricted = (root**0.5 - b) / (4 * n)
        variance = n * (2 * restricted + delta * (1 - delta))
        return float((first_only - second_only - n * delta) ** 2 - _Z**2 * variance)

    discordant = first_only + second_only
    # The estimate itself can be a root too; the limit is the one strictly beyond it.
    inner = (first_only - second_only) / n + end * 1e-9
    return end if abs(inner) >= 1 else float(optimize.brentq(excess, inner, end))
