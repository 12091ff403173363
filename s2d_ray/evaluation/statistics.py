"""Intervals and tests behind every figure of the report.

Observations of one cluster (all that is asked about one city, one question) may be right or wrong together, so the
number of clusters says more of what is known than that of observations does. Every interval is the usual one of as
many observations as would say as much if they were independent: their number by the design effect, which is 1 where
every observation is a cluster of its own (Korn and Graubard, Survey Methodology 24, 1998).
All are exact or solved from a formula, none resamples: the same answers always give the same report.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

CONFIDENCE = 0.95
_TWO_SIDED = (1 + CONFIDENCE) / 2
_Z = float(stats.norm.ppf(_TWO_SIDED))

Clusters = Sequence[Hashable]
"""The cluster that each observation is in."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its 95% interval, in the unit of the estimate."""

    value: float
    low: float
    high: float
    n: int
    """Observations behind it."""
    clusters: int | None = None
    """Clusters that they are in; None where that is not counted."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Two arms on the same prompts: the difference of their accuracies, first minus second."""

    difference: float
    """Of shares, between -1 and 1."""
    low: float
    """Lower end of Tango's 95% score interval, by clusters."""
    high: float
    """Its upper end."""
    p_value: float
    """Exact McNemar test that both are right equally often, two-sided, by clusters."""
    n: int
    """Prompts that both arms were scored on."""
    first_only: int
    """Prompts that only the first arm answers right."""
    second_only: int
    """Prompts that only the second arm answers right."""
    clusters: int
    """Clusters that the prompts are in."""
    adjusted: float | None = None
    """The p-value for one of many comparisons (Holm's), where there are others; None for one that stands alone."""

    @property
    def significant(self) -> bool:
        """Whether chance alone would give such a difference less than once in twenty times."""
        return self.p_value < 1 - CONFIDENCE


def share(hits: Sequence[bool], clusters: Clusters | None = None) -> Interval:
    """The share of hits with its Wilson interval. Without `clusters` each observation is one.

    Raises ValueError where there are none.
    """
    n = len(hits)
    if not n:
        raise ValueError("no share of no observations")
    found, of = np.asarray(hits, float), _numbered(clusters, n)
    value = float(found.mean())
    worth = n / _design_effect(found, of, (0.0, 1.0), _TWO_SIDED)
    centre, reach = worth * value + _Z**2 / 2, _Z * (worth * value * (1 - value) + _Z**2 / 4) ** 0.5
    low, high = ((centre + end) / (worth + _Z**2) for end in (-reach, reach))
    return Interval(value, max(0.0, low), min(1.0, high), n, _count(of))


def at_most(hits: Sequence[bool], clusters: Clusters | None = None) -> float:
    """What the share of hits is below with 95% confidence (Clopper and Pearson's bound). Raises as `share`."""
    n = len(hits)
    if not n:
        raise ValueError("no share of no observations")
    found = np.asarray(hits, float)
    worth = n / _design_effect(found, _numbered(clusters, n), (0.0, 1.0), CONFIDENCE)
    events = worth * float(found.mean())
    return float(special.betaincinv(events + 1, worth - events, CONFIDENCE)) if events < worth else 1.0


def mean(values: Sequence[float], clusters: Clusters | None = None) -> Interval:
    """A mean of numbers that cannot be negative, with its t interval; one cluster alone has no width.

    Raises ValueError where there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no mean of no values")
    found, of = np.asarray(values, float), _numbered(clusters, n)
    centre, reach = float(found.mean()), 0.0
    if _count(of) > 1:
        reach = float(special.stdtrit(n - 1, _TWO_SIDED) * found.std(ddof=1) / n**0.5)
        reach *= _design_effect(found, of, (), _TWO_SIDED) ** 0.5
    return Interval(centre, max(0.0, centre - reach), centre + reach, n, _count(of))


def paired(first: Sequence[bool], second: Sequence[bool], clusters: Clusters | None = None) -> Paired:
    """Compare two arms, given whether each was right on the same prompts in the same order.

    Raises ValueError where the two differ in length or are empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} results are no pairs")
    n = len(first)
    ahead, of = np.subtract(first, second, dtype=float), _numbered(clusters, n)
    first_only, second_only = int((ahead > 0).sum()), int((ahead < 0).sum())
    effect = _design_effect(ahead, of, (-1.0, 1.0), _TWO_SIDED)
    low, high = (_score_limit(first_only / effect, second_only / effect, n / effect, end) for end in (-1.0, 1.0))
    p_value = _sign_flips(np.bincount(of, ahead).astype(int))
    return Paired((first_only - second_only) / n, low, high, p_value, n, first_only, second_only, _count(of))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, each as large as it takes for none to err in 19 of 20 (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        least = adjusted[position] = min(1.0, max(least, (len(order) - rank) * p_values[position]))
    return adjusted


def _numbered(clusters: Clusters | None, n: int) -> NDArray[np.intp]:
    """The number of each observation's cluster, from 0."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} observations in {len(clusters)} clusters' names")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])


def _count(of: NDArray[np.intp]) -> int:
    return int(of.max()) + 1


def _design_effect(values: NDArray[np.float64], of: NDArray[np.intp], ends: Sequence[float], quantile: float) -> float:
    """How many of these observations say as much as one that is independent of all others; 1 or more.

    The variance of the mean by clusters over that without, both with one more cluster of each of the values `ends`:
    where hits are few, those that there are tell too little of whether they come together. The fewer clusters that
    variance is estimated from, the wider `quantile` of t.
    """
    n, groups = len(values), _count(of)
    if groups == n:
        return 1.0
    if groups == 1:
        return inf
    sizes, sums = np.bincount(of), np.bincount(of, values)
    size = float((sizes**2).sum() / n)
    centre = (sums.sum() + size * sum(ends)) / (n + size * len(ends))
    between = float(((sums - sizes * centre) ** 2).sum()) + sum((size * (end - centre)) ** 2 for end in ends)
    within = float(((values - centre) ** 2).sum()) + sum(size * (end - centre) ** 2 for end in ends)
    ratio = between / within * groups / (groups - 1) * (n - 1) / n if within else 1.0
    wider = special.stdtrit(groups - 1, quantile) / special.stdtrit(n - 1, quantile)
    return float(max(1.0, ratio) * wider**2)


def _sign_flips(sums: NDArray[np.int_]) -> float:
    """The chance that the sum is as far from 0, were each cluster's as likely to have the other sign."""
    chances: NDArray[np.floating[Any]] = np.ones(1)
    for size, count in zip(*np.unique(np.abs(sums[sums != 0]), return_counts=True), strict=True):
        flipped = np.zeros(count * size + 1)
        flipped[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, flipped)
    totals = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[np.abs(totals) >= abs(sums.sum())].sum()))


def _score_limit(first_only: float, second_only: float, n: float, end: float) -> float:
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

    if n == 0:
        return end
    discordant = first_only + second_only
    # The estimate itself can be a root too; the limit is the one strictly beyond it.
    inner = (first_only - second_only) / n + end * 1e-9
    return end if abs(inner) >= 1 else float(optimize.brentq(excess, inner, end))
