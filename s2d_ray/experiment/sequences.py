"""Intervals that hold at every moment at once, so that an experiment may be looked at as often as one likes.

A textbook 95% interval looked at again and again is sooner or later wrong by chance; the chance that one of
these is ever wrong is 5% in all (confidence sequences). They need only sums, so events may come in any order.

- A mean or a difference of means: Robbins' normal mixture (Annals of Mathematical Statistics 41, 1970) on an
  estimated variance, the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
  (Annals of Statistics 52, 2024). Its clock is the information 1/variance, so weights may change on the way.
- A share: Robbins' beta-binomial mixture, exact where every user has one event.
- A quantile: the values at which the share below may be that of the quantile (Howard and Ramdas, Bernoulli 28, 2022).

Users differ from each other more than one user's requests do, and users are what the experiment draws. So a
mean's variance is that between clusters of users: requests of one user are not counted as independent. The events
behind a share count as as many as would have that variance if they were independent (Kish's design effect). Users who
have not come yet are taken to be like those who have: where very few ask far more than all others and fare
differently, an interval before their time is wrong more often.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from s2d_ray.evaluation.statistics import CONFIDENCE, Interval

Array = npt.NDArray[np.float64]
Numbers = Any
"""One float, or an array of them: the formulas below take either."""

ALPHA = 1 - CONFIDENCE
MIN_USERS = 50
"""Users, or as many as they are worth, below which a variance between them says too little for an interval."""

# The mixture is narrowest where information is BEST times its precision, and is REACH standard errors wide there.
BEST = float(-special.lambertw(-(ALPHA**2) / np.e, k=-1).real - 1)
REACH = float(np.sqrt((1 + 1 / BEST) * np.log((1 + BEST) / ALPHA**2)))


@dataclass(frozen=True, slots=True)
class Moments:
    """What a mean over clustered values, and the variance of that mean, are made of. Floats, or arrays alike."""

    count: Numbers
    """Values in all clusters, or the sum of their weights."""
    total: Numbers
    """Sum of the values, each times its weight."""
    totals_squared: Numbers
    """Sum over clusters of the square of the cluster's total."""
    totals_by_counts: Numbers
    """Sum over clusters of the cluster's total times its count."""
    counts_squared: Numbers
    """Sum over clusters of the square of the cluster's count."""

    @property
    def mean(self) -> Numbers:
        """The mean over all values."""
        return self.total / self.count

    @property
    def clusters(self) -> Numbers:
        """As many clusters of equal size as these are worth (Kish's effective number); 0 without values."""
        return self.count**2 / np.maximum(self.counts_squared, np.finfo(float).tiny)

    @property
    def variance(self) -> Numbers:
        """Of the mean, from the scatter of whole clusters around it (linearised ratio estimator)."""
        mean = self.mean
        scatter = self.totals_squared - 2 * mean * self.totals_by_counts + mean**2 * self.counts_squared
        return np.maximum(scatter, 0) / self.count**2 * self.clusters / (self.clusters - 1)

    @property
    def independent(self) -> Numbers:
        """As many independent events as these are worth, for a share: all of them where each user has one.

        Users who never fail are worth one each, for the next may be one who always does.
        """
        doubt = self.with_doubt(of_each=1)
        worth = doubt.mean * (1 - doubt.mean) / doubt.variance + 1
        return np.minimum(worth / doubt.count, 1) * self.count

    def with_doubt(self, of_each: int = 2) -> "Moments":
        """As if some more clusters had been seen, all 0 and all 1: for the variance of values in [0, 1].

        Fifty ratings that happen to be equal must not look like certainty (the "plus four" of Agresti and Coull).
        """
        size = self.count / self.clusters
        return Moments(
            self.count + 2 * of_each * size,
            self.total + of_each * size,
            self.totals_squared + of_each * size**2,
            self.totals_by_counts + of_each * size**2,
            self.counts_squared + 2 * of_each * size**2,
        )


def moments(counts: Array, totals: Array) -> Moments:
    """Of clusters along the last axis: how many values each has, and their sum; or both by weight."""
    return Moments(counts.sum(-1), totals.sum(-1), (totals**2).sum(-1), (totals * counts).sum(-1), (counts**2).sum(-1))


def radius(variance: Numbers, margin: float) -> Numbers:
    """Half the width of the sequence around an estimate of that variance, narrowest where it is `margin` wide."""
    information = BEST * (margin / REACH) ** 2 / variance
    return np.sqrt(variance * (1 + 1 / information) * np.log((1 + information) / ALPHA**2))


def rating(m: Moments, margin: float) -> Interval | None:
    """The mean of values in [0, 1]; None while there are too few users."""
    if m.clusters < MIN_USERS:
        return None
    reach = float(radius(m.with_doubt().variance, margin))
    value = float(m.mean)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach), int(m.count))


def difference(first: Moments, second: Moments, margin: float, n: int) -> Interval | None:
    """Mean of the first minus mean of the second, of `n` values in [0, 1]; None while either has too few users."""
    if min(first.clusters, second.clusters) < MIN_USERS:
        return None
    value = float(first.mean - second.mean)
    reach = float(radius(first.with_doubt().variance + second.with_doubt().variance, margin))
    return Interval(value, max(-1.0, value - reach), min(1.0, value + reach), n)


def amount(m: Moments, narrowest: int = 1000) -> Interval | None:
    """The mean of values that cannot be negative, narrowest after that many users; None while too few."""
    if m.clusters < MIN_USERS:
        return None
    # Such values have no margin, but in units of their own deviation information is the number of clusters.
    deviation = float(m.variance * m.clusters) ** 0.5
    reach = deviation * float(radius(1 / m.clusters, REACH / narrowest**0.5))
    value = float(m.mean)
    return Interval(value, max(0.0, value - reach), value + reach, int(m.count))


def share_sequence(m: Moments) -> Interval | None:
    """A share of events, `m` holding 1 for each that counts and 0 for others; None where there is no event.

    Needs no least number of users: with few of them it is wide.
    """
    if not m.count:
        return None
    value, worth = float(m.mean), float(m.independent)

    def excess(p: float) -> float:
        return float(_evidence_against(p, value * worth, worth) + np.log(ALPHA))

    low = optimize.brentq(excess, 0.0, value) if value > 0 else 0.0
    high = optimize.brentq(excess, value, 1.0) if value < 1 else 1.0
    return Interval(value, float(low), float(high), int(m.count))


def cumulative(histograms: npt.NDArray[Any]) -> Moments:
    """Of what lies below each edge, from one histogram for each cluster, a row each. Below the first is nothing."""
    below = np.zeros((len(histograms), histograms.shape[1] + 1))
    np.cumsum(histograms, axis=1, out=below[:, 1:])
    counts = below[:, -1]
    squared = np.einsum("ce,ce->e", below, below)
    return Moments(counts.sum(), below.sum(0), squared, counts @ below, (counts**2).sum())


def quantile(below: Moments, edges: Array, q: float) -> Interval | None:
    """The `q` quantile of values of which shares lie below each of the edges.

    Ends are edges of bins. None where there are no values.
    """
    n = below.count
    if n == 0:
        return None
    worth = below.independent
    sure = _evidence_against(q, below.mean * worth, worth) >= -np.log(ALPHA)
    low = np.flatnonzero(sure & (below.total < q * n)).max(initial=0)
    high = np.flatnonzero(sure & (below.total > q * n)).min(initial=len(edges) - 1)
    middle = int(np.searchsorted(below.total, q * n))
    return Interval(float(np.sqrt(edges[middle - 1] * edges[middle])), float(edges[low]), float(edges[high]), int(n))


def _evidence_against(p: Numbers, successes: Numbers, n: Numbers) -> Numbers:
    """Log of how much likelier the counts are under some other share, all shares taken as alike, than under `p`.

    If `p` is true it ever exceeds log(1/alpha) with probability alpha at most (Ville's inequality).
    """
    failures = n - successes
    mixture = special.betaln(successes + 1, failures + 1)
    return mixture - special.xlogy(successes, p) - special.xlog1py(failures, -p)
