"""What the sums of an experiment say about each arm, with intervals that hold however often they are looked at.

In ratings every user has one say, whether it rates once or a thousand times: the mean of its ratings. Where clients are
not trusted to say who their users are, every client has one, however many users it names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from s2d_ray.arms import CORE_ARMS, LABELS, CoreArm
from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.checks import AssignmentCheck, RatingCheck, check_assignment, check_ratings
from s2d_ray.experiment.sequences import (
    MIN_USERS,
    Moments,
    amount,
    cumulative,
    difference,
    moments,
    quantile,
    rating,
    share_sequence,
)
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.experiment.sums import COST, EDGES, OUTCOMES, PERIODS, SCORE, WEIGHT, Counts, Sums, weights_by_version
from s2d_ray.recipes.serve import Serve

FEW_RATERS = 10
"""Where so few users or clients gave half of the ratings, they are no picture of all."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of seconds; ends of intervals are edges of `EDGES`."""

    p50: Interval
    p95: Interval


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm over the whole experiment. None stands for too little to say."""

    requests: int
    """That the experiment assigned, whatever became of them."""
    outcomes: Mapping[str, int]
    """How many of these were answered, failed, refused and cancelled."""
    asked_by_name: int
    """Further requests, which asked for this arm."""
    errors: Interval | None
    """Share that failed, of those that were answered or failed; None only without any."""
    quality: Interval | None
    """Mean rating, 0 to 1; `n` ratings."""
    ratings: int
    raters: int
    """Users or clients, or clusters of them, who rated: each has one say."""
    seconds: Quantiles | None
    """Of answered requests."""
    first_token_seconds: Quantiles | None
    tokens: Interval | None
    """Mean generated tokens per answer, intermediate ones included."""
    cost_per_1000: float | None
    """Of a thousand answers, in the currency of the prices."""
    escalated: float | None
    """Share of the answers that the teacher had to give in this arm's place."""
    agreement: Interval | None
    """Mean agreement of this arm's answers with those of the teacher, or the student for the teacher's; `n` shadows."""


@dataclass(frozen=True, slots=True)
class QualityPoint:
    """Quality over everything up to one moment."""

    at: float
    """In seconds since 1970."""
    quality: Mapping[CoreArm, Interval]
    """Arms with enough ratings by then."""
    difference: Interval | None
    """The student minus the teacher."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Every arm, side by side."""

    arms: Mapping[CoreArm, ArmSummary]
    difference: Interval | None
    """Quality of the student minus that of the teacher at the same times; None while either has too few raters."""
    over_time: Sequence[QualityPoint]
    """Oldest first, the last one now."""
    assignment: AssignmentCheck
    rating: RatingCheck
    half_from: int
    """Users or clients, the busiest ones, who gave half of the ratings of the student and the teacher."""

    @property
    def few_rate(self) -> bool:
        """Whether few users or clients gave most of the ratings, where there are ratings to speak of."""
        ratings = self.arms["student"].ratings + self.arms["teacher"].ratings
        return ratings >= MIN_USERS and self.half_from < FEW_RATERS

    @property
    def failed_checks(self) -> list[str]:
        """Why the arms cannot be compared, where that is so: halves of a sentence."""
        checks = (
            (self.assignment, "users are not assigned as planned"),
            (self.rating, "the arms are not rated equally often"),
        )
        return [what for check, what in checks if not check.passed]


def summarise(sums: Sums, state: ExperimentState, serve: Serve, now: datetime) -> Summary:
    """Every arm of an experiment."""
    start, end = state.started.timestamp(), max(now.timestamp(), state.started.timestamp() + 1)
    over_time = _over_time(sums, serve.margin, start, end)
    # What came in since may still be being answered, which the arms do not do equally fast.
    ended = now.timestamp() - max(arm.deadline_seconds for arm in (serve.student, serve.teacher, serve.base))
    by_version = weights_by_version(state)
    ratings = sums.ratings.sum(1)
    return Summary(
        arms={arm: _summary(sums, arm, over_time[-1].quality.get(arm), serve.margin) for arm in LABELS},
        difference=over_time[-1].difference,
        over_time=over_time,
        assignment=check_assignment(sums.firsts.counts(len(by_version), ended), by_version),
        rating=_check_ratings(sums),
        half_from=_half_from(ratings[CORE_ARMS.index("student")] + ratings[CORE_ARMS.index("teacher")]),
    )


def _over_time(sums: Sums, margin: float, start: float, end: float) -> list[QualityPoint]:
    """At the end of every period so far, and now."""
    all_ends = start + sums.period_seconds * np.arange(1, PERIODS + 1)
    past = int(np.count_nonzero(all_ends < end))
    # The last point has all that there is, also what another machine's clock puts into the future.
    ends, periods = [*all_ends[:past].tolist(), end], [*range(past), PERIODS - 1]
    counts = {arm: sums.ratings[CORE_ARMS.index(arm)].cumsum(0)[periods] for arm in LABELS}
    quality = {
        arm: _moments_so_far(counts[arm], counts[arm], sums.scores[CORE_ARMS.index(arm)].cumsum(0)[periods], 1)
        for arm in LABELS
    }
    one, two = (
        _moments_so_far(
            counts[arm],
            sums.weighted_ratings[CORE_ARMS.index(arm)].cumsum(0)[periods],
            sums.weighted_scores[CORE_ARMS.index(arm)].cumsum(0)[periods],
            WEIGHT,
        )
        for arm in ("student", "teacher")
    )
    return [
        QualityPoint(
            at,
            {
                arm: replace(interval, n=int(counts[arm][i].sum()))
                for arm in LABELS
                if (interval := rating(quality[arm][i], margin))
            },
            difference(one[i], two[i], margin, int(counts["student"][i].sum() + counts["teacher"][i].sum())),
        )
        for i, at in enumerate(ends)
    ]


def _moments_so_far(ratings: Counts, weights: Counts, scores: Counts, parts: int) -> list[Moments]:
    """By point in time, of sums by point and rater; every rater's are divided by how many they are of."""
    of_each = np.maximum(ratings, 1)
    found = zip(weights / (of_each * parts), scores / (of_each * float(SCORE * parts)), strict=True)
    return [moments(counts, totals) for counts, totals in found]


def _check_ratings(sums: Sums) -> RatingCheck:
    arms, raters = [], []
    for arm in ("student", "teacher"):
        at = CORE_ARMS.index(arm)
        answers, weighted = sums.rater_answers[at], sums.weighted_answers[at]
        # An answer may have been rated whose end is not stored yet.
        rated = np.minimum(sums.weighted_ratings[at].sum(0), weighted)
        of_each = np.maximum(answers, 1) * float(WEIGHT)
        arms.append(moments(weighted / of_each, rated / of_each))
        raters.append(int(np.count_nonzero(answers)))
    return check_ratings(arms[0], arms[1], (raters[0], raters[1]))


def _half_from(ratings: Counts) -> int:
    busiest = np.sort(ratings)[::-1].cumsum()
    return int(np.searchsorted(2 * busiest, busiest[-1])) + 1 if busiest[-1] else 0


def _summary(sums: Sums, name: CoreArm, quality: Interval | None, margin: float) -> ArmSummary:
    arm = CORE_ARMS.index(name)
    outcomes = {outcome: int(count) for outcome, count in zip(OUTCOMES, sums.outcomes[arm], strict=True)}
    answered, priced = outcomes["answered"], int(sums.priced[arm])
    by_rater = sums.ratings[arm].sum(0)
    answers, failures = sums.answers[arm].astype(float), sums.failures[arm].astype(float)
    agreements = moments(sums.shadows[arm].astype(float), sums.agreements[arm] / SCORE)
    return ArmSummary(
        requests=sum(outcomes.values()),
        outcomes=outcomes,
        asked_by_name=int(sums.asked_by_name[arm]),
        errors=share_sequence(moments(answers + failures, failures)),
        quality=quality,
        ratings=int(by_rater.sum()),
        raters=int(np.count_nonzero(by_rater)),
        seconds=_quantiles(sums.seconds[arm]),
        first_token_seconds=_quantiles(sums.first_token_seconds[arm]),
        tokens=amount(moments(answers, sums.tokens[arm].astype(float))),
        cost_per_1000=1000 * float(sums.cost[arm]) / COST / priced if priced else None,
        escalated=int(sums.escalated[arm]) / answered if answered else None,
        agreement=rating(agreements, margin),
    )


def _quantiles(histograms: npt.NDArray[np.int32]) -> Quantiles | None:
    if not histograms.any():
        return None
    below = cumulative(histograms)
    p50, p95 = (quantile(below, EDGES, q) for q in (0.5, 0.95))
    return Quantiles(p50, p95) if p50 and p95 else None
