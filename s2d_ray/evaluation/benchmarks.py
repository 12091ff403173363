"""Tasks of lm-eval before and after: what changed, and what was lost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import stats

from s2d_ray.data.manifests import BenchmarkScore
from s2d_ray.display.formatting import percent, points
from s2d_ray.evaluation.general import AFTER, BEFORE
from s2d_ray.evaluation.statistics import CONFIDENCE

HIGHER_IS_BETTER = ("acc", "exact_match", "em", "f1", "pass@1")
"""Metrics of lm-eval that are shares, whose fall is a loss; others are shown alone."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One metric of one benchmark, on the base and on the distilled model."""

    name: str
    """Of the benchmark."""
    metric: str
    """As lm-eval calls it."""
    before: BenchmarkScore
    after: BenchmarkScore
    difference: float
    """After minus before."""
    low: float | None
    """Lower end of its 95% interval, as of two independent measurements, which is cautious; None without errors."""
    high: float | None
    """Its upper end."""


def benchmarks(results: Mapping[str, Mapping[str, Mapping[str, BenchmarkScore]]]) -> tuple[Benchmark, ...]:
    """From benchmark → metric → arm → score."""
    return tuple(
        _benchmark(name, metric, of_arm[BEFORE], of_arm[AFTER])
        for name, metrics in results.items()
        for metric, of_arm in metrics.items()
    )


def _benchmark(name: str, metric: str, before: BenchmarkScore, after: BenchmarkScore) -> Benchmark:
    difference, low, high = after.value - before.value, None, None
    if before.stderr is not None and after.stderr is not None:
        reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * (before.stderr**2 + after.stderr**2) ** 0.5
        low, high = difference - reach, difference + reach
    return Benchmark(name, metric, before, after, difference, low, high)


def lost_on(found: Iterable[Benchmark], margin: float) -> tuple[str, ...]:
    """A clause for each benchmark on which the distilled model fell by more than the margin, by its whole interval."""
    return tuple(
        f"has {percent(b.after.value)}% on {b.name} ({b.metric}; before: {percent(b.before.value)}%, difference "
        f"{points(b.low)} to {points(b.high)} points)"
        for b in found
        if b.metric.split(",")[0].removesuffix("_norm") in HIGHER_IS_BETTER
        and b.low is not None
        and b.high is not None
        and b.high < -margin
    )
