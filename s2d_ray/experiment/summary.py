"""What the stored events say about each arm, with intervals that hold however often they are looked at.

The store is read in one pass, a batch in memory at a time; only feedback, which is rare, is held whole to be joined
to its requests. Users are compared as the experiment drew them: a request counts for the arm that its user was
assigned to, whatever answered in the end, and one that asked for an arm by name does not count.

While weights change, the student has more of its ratings from later times than the teacher has. So that a harder
Monday is not held against one of them, a rating counts in their difference by the share that the other arm had when
its user was assigned: then both arms have the same mix of times (overlap weights; Li, Morgan and Zaslavsky, JASA 113,
2018).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.acero as acero
import pyarrow.compute as pc

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.assignment import CLUSTERS
from s2d_ray.experiment.checks import AssignmentCheck, FirstRequests, RatingCheck, check_assignment, check_ratings
from s2d_ray.experiment.events import Outcome
from s2d_ray.experiment.sequences import (
    Array,
    Moments,
    amount,
    cumulative,
    difference,
    moments,
    quantile,
    rating,
    share_sequence,
)
from s2d_ray.experiment.state import ALL_TO_TEACHER, ExperimentState
from s2d_ray.experiment.store import Snapshot
from s2d_ray.recipes.serve import Serve, Weights

PERIODS = 60
"""Points in time at which quality is shown."""
EDGES: Array = np.geomspace(1e-3, 1e4, 815)
"""Seconds between which latencies are counted: each bin is 2% wide."""
COLUMNS = (
    "time",
    "arm",
    "version",
    "cluster",
    "outcome",
    "seconds",
    "first_token_seconds",
    "completion_tokens",
    "cost",
    "escalated",
)


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
    """Users, or clusters of them, that the ratings are worth: one who rates more than others counts for less."""
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

    @property
    def failed_checks(self) -> list[str]:
        """Why the arms cannot be compared, where that is so: halves of a sentence."""
        checks = (
            (self.assignment, "users are not assigned as planned"),
            (self.rating, "the arms are not rated equally often"),
        )
        return [what for check, what in checks if not check.passed]


def _by_cluster() -> Array:
    return np.zeros(CLUSTERS)


def _histograms() -> npt.NDArray[np.int32]:
    """By cluster and bin; 3 MB, whatever is counted."""
    return np.zeros((CLUSTERS, len(EDGES) - 1), np.int32)


@dataclass
class Tally:
    """The sums behind one arm's summary."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    asked_by_name: int = 0
    escalated: int = 0
    cost: float = 0.0
    priced: int = 0
    ratings: Array = field(default_factory=lambda: np.zeros((PERIODS, CLUSTERS)))
    scores: Array = field(default_factory=lambda: np.zeros((PERIODS, CLUSTERS)))
    weighted_ratings: Array = field(default_factory=lambda: np.zeros((PERIODS, CLUSTERS)))
    weighted_scores: Array = field(default_factory=lambda: np.zeros((PERIODS, CLUSTERS)))
    answers: Array = field(default_factory=_by_cluster)
    failures: Array = field(default_factory=_by_cluster)
    weighted_answers: Array = field(default_factory=_by_cluster)
    weighted_rated: Array = field(default_factory=_by_cluster)
    tokens: Array = field(default_factory=_by_cluster)
    seconds: npt.NDArray[np.int32] = field(default_factory=_histograms)
    first_token_seconds: npt.NDArray[np.int32] = field(default_factory=_histograms)
    shadows: Array = field(default_factory=_by_cluster)
    agreements: Array = field(default_factory=_by_cluster)


def summarise(snapshot: Snapshot, state: ExperimentState, serve: Serve, now: datetime) -> Summary:
    """Every arm of an experiment, from all that its store holds."""
    tallies: dict[CoreArm, Tally] = {arm: Tally() for arm in LABELS}
    firsts = FirstRequests()
    start = state.started.timestamp()
    end = max(now.timestamp(), start + 1)
    by_version = [ALL_TO_TEACHER, *(revision.weights for revision in state.revisions)]
    counts = {arm: np.array([_share_of_the_other(arm, weights) for weights in by_version]) for arm in LABELS}
    for batch in _requests(snapshot):
        firsts.add(batch.filter(pc.is_valid(batch["version"])))
        for arm, own in _by_arm(batch):
            assigned = own.filter(pc.is_valid(own["version"]))
            tallies[arm].asked_by_name += len(own) - len(assigned)
            _count_answers(tallies[arm], assigned, counts[arm])
            _count_ratings(tallies[arm], assigned.filter(pc.is_valid(assigned["score"])), start, end, counts[arm])
    for batch in snapshot.shadows.to_batches(columns=["arm", "cluster", "agreement"]):
        for arm, own in _by_arm(batch.filter(pc.is_valid(batch["agreement"]))):
            _add(tallies[arm].shadows, tallies[arm].agreements, own, own["agreement"].to_numpy())
    over_time = _over_time(tallies, serve.margin, start, end)
    # What came in since may still be being answered, which the arms do not do equally fast.
    ended = now.timestamp() - max(arm.deadline_seconds for arm in (serve.student, serve.teacher, serve.base))
    return Summary(
        arms={arm: _summary(tally, serve.margin) for arm, tally in tallies.items()},
        difference=over_time[-1].difference,
        over_time=over_time,
        assignment=check_assignment(firsts.counts(len(by_version), ended), by_version),
        rating=_check_ratings(tallies["student"], tallies["teacher"]),
    )


def _share_of_the_other(arm: CoreArm, weights: Weights) -> float:
    """What a rating of `arm` counts in the difference of the student and the teacher, given under those weights."""
    return {"student": weights.teacher, "teacher": weights.student, "base": 0.0}[arm]


def _requests(snapshot: Snapshot) -> Iterator[pa.RecordBatch]:
    """Requests with their latest score, null where there is none."""
    feedback = snapshot.feedback.to_table().sort_by("time")
    latest = feedback.group_by("request_id", use_threads=False).aggregate([("score", "last")])
    scan = acero.Declaration("scan", acero.ScanNodeOptions(snapshot.requests, columns=["request_id", *COLUMNS]))
    scores = acero.Declaration("table_source", acero.TableSourceNodeOptions(latest.rename_columns(["id", "score"])))
    join = acero.HashJoinNodeOptions(
        "left outer", left_keys=["request_id"], right_keys=["id"], left_output=COLUMNS, right_output=["score"]
    )
    yield from acero.Declaration("hashjoin", join, inputs=[scan, scores]).to_reader()


def _by_arm(batch: pa.RecordBatch) -> Iterator[tuple[CoreArm, pa.RecordBatch]]:
    for arm in LABELS:
        own = batch.filter(pc.equal(batch["arm"], arm))
        if len(own):
            yield arm, own


def _count_answers(tally: Tally, assigned: pa.RecordBatch, weight_by_version: Array) -> None:
    for entry in pc.value_counts(assigned["outcome"]).to_pylist():
        tally.outcomes[entry["values"]] += entry["counts"]
    np.add.at(tally.failures, _clusters(assigned.filter(pc.equal(assigned["outcome"], "failed"))), 1)
    answered = assigned.filter(pc.equal(assigned["outcome"], "answered"))
    tally.escalated += pc.sum(answered["escalated"], min_count=0).as_py()
    tally.cost += pc.sum(answered["cost"], min_count=0).as_py()
    tally.priced += pc.count(answered["cost"]).as_py()
    _add(tally.answers, tally.tokens, answered, answered["completion_tokens"].to_numpy())
    weight, rated = _weights(answered, weight_by_version), pc.is_valid(answered["score"]).to_numpy(zero_copy_only=False)
    _add(tally.weighted_answers, tally.weighted_rated, answered, weight * rated, weight)
    _count_seconds(tally.seconds, answered, "seconds")
    _count_seconds(tally.first_token_seconds, answered, "first_token_seconds")


def _count_ratings(tally: Tally, rated: pa.RecordBatch, start: float, end: float, weight_by_version: Array) -> None:
    at = rated["time"].cast(pa.int64()).to_numpy() / 1e6
    period = np.clip(np.ceil((at - start) / (end - start) * PERIODS).astype(int) - 1, 0, PERIODS - 1)
    cell = (period, _clusters(rated))
    score, weight = rated["score"].to_numpy(), _weights(rated, weight_by_version)
    np.add.at(tally.ratings, cell, 1)
    np.add.at(tally.scores, cell, score)
    np.add.at(tally.weighted_ratings, cell, weight)
    np.add.at(tally.weighted_scores, cell, weight * score)


def _count_seconds(histograms: npt.NDArray[np.int32], answered: pa.RecordBatch, column: str) -> None:
    known = answered.filter(pc.is_valid(answered[column]))
    bins = np.searchsorted(EDGES, known[column].to_numpy(), side="right") - 1
    np.add.at(histograms, (_clusters(known), np.clip(bins, 0, len(EDGES) - 2)), 1)


def _clusters(events: pa.RecordBatch) -> npt.NDArray[np.integer[Any]]:
    return np.asarray(events["cluster"]) % CLUSTERS


def _weights(requests: pa.RecordBatch, weight_by_version: Array) -> Array:
    # A version newer than the state that was read is as good as the latest known.
    version: npt.NDArray[np.int32] = np.minimum(requests["version"].to_numpy(), len(weight_by_version) - 1)
    return weight_by_version[version]


def _add(counts: Array, totals: Array, events: pa.RecordBatch, values: Array, weights: Array | float = 1.0) -> None:
    clusters = _clusters(events)
    np.add.at(counts, clusters, weights)
    np.add.at(totals, clusters, values)


def _over_time(tallies: Mapping[CoreArm, Tally], margin: float, start: float, end: float) -> list[QualityPoint]:
    of_arm = {arm: _moments_so_far(tally.ratings, tally.scores) for arm, tally in tallies.items()}
    one, two = (
        _moments_so_far(tallies[arm].weighted_ratings, tallies[arm].weighted_scores) for arm in ("student", "teacher")
    )
    points = []
    for period in range(PERIODS):
        quality = {arm: interval for arm, so_far in of_arm.items() if (interval := rating(so_far[period], margin))}
        n = int(of_arm["student"][period].count + of_arm["teacher"][period].count)
        at = start + (end - start) * (period + 1) / PERIODS
        points.append(QualityPoint(at, quality, difference(one[period], two[period], margin, n)))
    return points


def _moments_so_far(ratings: Array, scores: Array) -> list[Moments]:
    return [moments(*sums) for sums in zip(ratings.cumsum(0), scores.cumsum(0), strict=True)]


def _check_ratings(student: Tally, teacher: Tally) -> RatingCheck:
    one, two = (moments(tally.weighted_answers, tally.weighted_rated) for tally in (student, teacher))
    return check_ratings(one, two, (student.outcomes["answered"], teacher.outcomes["answered"]))


def _summary(tally: Tally, margin: float) -> ArmSummary:
    answered = tally.outcomes["answered"]
    ratings, agreements = moments(tally.ratings.sum(0), tally.scores.sum(0)), moments(tally.shadows, tally.agreements)
    return ArmSummary(
        requests=tally.outcomes.total(),
        outcomes={outcome: tally.outcomes[outcome] for outcome in get_args(Outcome)},
        asked_by_name=tally.asked_by_name,
        errors=share_sequence(moments(tally.answers + tally.failures, tally.failures)),
        quality=rating(ratings, margin),
        ratings=int(ratings.count),
        raters=int(ratings.clusters),
        seconds=_quantiles(tally.seconds),
        first_token_seconds=_quantiles(tally.first_token_seconds),
        tokens=amount(moments(tally.answers, tally.tokens)),
        cost_per_1000=1000 * tally.cost / tally.priced if tally.priced else None,
        escalated=tally.escalated / answered if answered else None,
        agreement=rating(agreements, margin),
    )


def _quantiles(histograms: npt.NDArray[np.int32]) -> Quantiles | None:
    below = cumulative(histograms)
    p50, p95 = (quantile(below, EDGES, q) for q in (0.5, 0.95))
    return Quantiles(p50, p95) if p50 and p95 else None
