"""The sums behind an experiment's page: whatever the number of events, of one size, and the same in whatever order.

Users are compared as the experiment drew them: a request counts for the arm that its user was assigned to, whatever
answered in the end, and one that asked for an arm by name does not count. All sums are of whole numbers, scores and
weights in fixed point: added in another order, or by several processes, floats would differ in their last digits.

While weights change, the student has more of its ratings from later times than the teacher has. So that a harder
Monday is not held against one of them, a rating counts in their difference by the share that the other arm had when
its user was assigned: then both arms have the same mix of times (overlap weights; Li, Morgan and Zaslavsky, JASA 113,
2018).
"""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from s2d_ray.arms import CORE_ARMS, CoreArm
from s2d_ray.experiment.assignment import CLUSTERS
from s2d_ray.experiment.checks import FirstRequests
from s2d_ray.experiment.events import Outcome
from s2d_ray.experiment.rated import RATING, RatedRequests, Ratings, hash_request
from s2d_ray.experiment.sequences import Array
from s2d_ray.experiment.state import ALL_TO_TEACHER, ExperimentState
from s2d_ray.recipes.serve import Weights

PERIODS = 64
"""Stretches of time at most for which ratings are kept apart: when they are full, each two become one."""
SHORTEST = 60_000_000
"""Microseconds of a stretch at first."""
EDGES: Array = np.geomspace(1e-3, 1e4, 815)
"""Seconds between which latencies are counted: each bin is 2% wide."""
OUTCOMES: Sequence[str] = get_args(Outcome)
SCORE, WEIGHT, COST = 2**16, 2**20, 10**9
"""Parts of 1 in which scores, weights and costs are counted."""

Counts = npt.NDArray[np.int64]
_arms = len(CORE_ARMS)
_SHAPES: dict[str, tuple[tuple[int, ...], type]] = {
    "outcomes": ((_arms, len(OUTCOMES)), np.int64),
    "asked_by_name": ((_arms,), np.int64),
    "escalated": ((_arms,), np.int64),
    "priced": ((_arms,), np.int64),
    "cost": ((_arms,), np.int64),
    **dict.fromkeys(("answers", "failures", "tokens", "shadows", "agreements"), ((_arms, CLUSTERS), np.int64)),
    **dict.fromkeys(("rater_answers", "weighted_answers"), ((_arms, CLUSTERS), np.int64)),
    **dict.fromkeys(
        ("ratings", "scores", "weighted_ratings", "weighted_scores"), ((_arms, PERIODS, CLUSTERS), np.int64)
    ),
    **dict.fromkeys(("seconds", "first_token_seconds"), ((_arms, CLUSTERS, len(EDGES) - 1), np.int32)),
    "doublings": ((), np.int64),
}
"""Sum → its shape and type."""


def weights_by_version(state: ExperimentState) -> list[Weights]:
    """Of every version, from 0 on."""
    return [ALL_TO_TEACHER, *(revision.weights for revision in state.revisions)]


def _share_of_the_other(arm: CoreArm, weights: Weights) -> float:
    """What a rating of `arm` counts in the difference of the student and the teacher, given under those weights."""
    return {"student": weights.teacher, "teacher": weights.student, "base": 0.0}[arm]


class Sums:
    """Of one experiment that began at `start`, in microseconds since 1970."""

    outcomes: Counts
    """By arm and outcome, like all of these; of requests that the experiment assigned."""
    asked_by_name: Counts
    escalated: Counts
    priced: Counts
    """Answers with a cost."""
    cost: Counts
    """In `COST` parts."""
    answers: Counts
    """By cluster of users, like the next two."""
    failures: Counts
    tokens: Counts
    """Of the answered."""
    shadows: Counts
    agreements: Counts
    """In `SCORE` parts."""
    rater_answers: Counts
    """By cluster of raters, like the next five: how many answers they got."""
    weighted_answers: Counts
    """In `WEIGHT` parts."""
    ratings: Counts
    """By the period in which they came, too; like the next three."""
    scores: Counts
    """In `SCORE` parts."""
    weighted_ratings: Counts
    """In `WEIGHT` parts."""
    weighted_scores: Counts
    """In parts of both."""
    seconds: npt.NDArray[np.int32]
    """By cluster of users and bin; of answered requests."""
    first_token_seconds: npt.NDArray[np.int32]
    doublings: Counts
    """How often a period has become twice as long."""

    def __init__(self, start: int, kept: dict[str, Any] | None = None) -> None:
        """Of no events; or as `arrays` had it."""
        self._start = start
        for name, (shape, kind) in _SHAPES.items():
            setattr(self, name, np.zeros(shape, kind) if kept is None else kept[name])
        self.firsts = FirstRequests(*(() if kept is None else (kept[f"first_{i}"] for i in range(3))))
        self.rated = RatedRequests(None if kept is None else kept["rated"])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it by name."""
        firsts = {f"first_{i}": array for i, array in enumerate(self.firsts.arrays)}
        return {name: getattr(self, name) for name in _SHAPES} | firsts | {"rated": self.rated.ratings}

    @property
    def period_seconds(self) -> float:
        """How long a period is."""
        return float(SHORTEST * 2 ** int(self.doublings) / 1e6)

    def add_requests(self, requests: pa.RecordBatch, weights: Sequence[Weights]) -> None:
        """Rows of schema `REQUESTS`, whose versions have these weights."""
        arms = _arms_of(requests)
        assigned = requests["version"].is_valid().to_numpy(zero_copy_only=False)
        np.add.at(self.asked_by_name, arms[~assigned], 1)
        requests = requests.filter(pa.array(assigned))
        self.firsts.add(requests)
        outcome = np.asarray(pc.index_in(requests["outcome"], pa.array(OUTCOMES)))
        np.add.at(self.outcomes, (arms[assigned], outcome), 1)
        self._add_failures(requests.filter(pa.array(outcome == OUTCOMES.index("failed"))))
        self._add_answers(requests.filter(pa.array(outcome == OUTCOMES.index("answered"))), weights)

    def _add_failures(self, failed: pa.RecordBatch) -> None:
        np.add.at(self.failures, (_arms_of(failed), _clusters(failed["cluster"])), 1)

    def _add_answers(self, answered: pa.RecordBatch, weights: Sequence[Weights]) -> None:
        arms, clusters = _arms_of(answered), _clusters(answered["cluster"])
        np.add.at(self.escalated, arms, answered["escalated"].to_numpy(zero_copy_only=False).astype(int))
        priced = answered["cost"].is_valid().to_numpy(zero_copy_only=False)
        np.add.at(self.priced, arms[priced], 1)
        np.add.at(self.cost, arms[priced], _parts(answered["cost"].drop_null(), COST))
        np.add.at(self.answers, (arms, clusters), 1)
        np.add.at(self.tokens, (arms, clusters), answered["completion_tokens"].to_numpy())
        raters = _clusters(pc.coalesce(answered["rater"], answered["cluster"]))
        np.add.at(self.rater_answers, (arms, raters), 1)
        np.add.at(self.weighted_answers, (arms, raters), _weights(arms, answered["version"].to_numpy(), weights))
        for name in ("seconds", "first_token_seconds"):
            known = answered[name].is_valid().to_numpy(zero_copy_only=False)
            bins = np.searchsorted(EDGES, answered[name].drop_null().to_numpy(), side="right") - 1
            np.add.at(getattr(self, name), (arms[known], clusters[known], np.clip(bins, 0, len(EDGES) - 2)), 1)

    def add_feedback(self, feedback: pa.RecordBatch, weights: Sequence[Weights]) -> None:
        """Rows of schema `FEEDBACK`, whose versions have these weights."""
        feedback = feedback.filter(feedback["version"].is_valid())
        ratings = np.empty(len(feedback), RATING)
        ratings["request"] = [hash_request(name) for name in feedback["request_id"].to_pylist()]
        ratings["time"] = feedback["time"].cast(pa.int64()).to_numpy()
        ratings["score"] = _parts(feedback["score"], SCORE)
        ratings["arm"] = _arms_of(feedback)
        ratings["version"], ratings["rater"] = feedback["version"].to_numpy(), feedback["rater"].to_numpy()
        # For those that do not count as well: which ones these are depends on what has been read before.
        self._make_room(int(self._passed(ratings["time"]).max(initial=0)))
        counting, replaced = self.rated.add(ratings)
        self._count(counting, weights, 1)
        self._count(replaced, weights, -1)

    def _count(self, ratings: Ratings, weights: Sequence[Weights], sign: int) -> None:
        periods = self._passed(ratings["time"]) >> self.doublings
        cell = (ratings["arm"], periods, ratings["rater"] % CLUSTERS)
        weight = _weights(ratings["arm"], ratings["version"], weights)
        score = ratings["score"].astype(np.int64)
        np.add.at(self.ratings, cell, sign)
        np.add.at(self.scores, cell, sign * score)
        np.add.at(self.weighted_ratings, cell, sign * weight)
        np.add.at(self.weighted_scores, cell, sign * weight * score)

    def _make_room(self, passed: int) -> None:
        """For a rating so many of the shortest periods after the start."""
        while passed >> int(self.doublings) >= PERIODS:
            self.doublings += 1
            for sums in (self.ratings, self.scores, self.weighted_ratings, self.weighted_scores):
                sums[:, : PERIODS // 2] = sums[:, ::2] + sums[:, 1::2]
                sums[:, PERIODS // 2 :] = 0

    def _passed(self, time: Counts) -> Counts:
        """The shortest periods since the start."""
        passed: Counts = np.maximum(time - self._start, 0) // SHORTEST
        return passed

    def add_shadows(self, shadows: pa.RecordBatch) -> None:
        """Rows of schema `SHADOWS`."""
        compared = shadows.filter(shadows["agreement"].is_valid())
        cell = (_arms_of(compared), _clusters(compared["cluster"]))
        np.add.at(self.shadows, cell, 1)
        np.add.at(self.agreements, cell, _parts(compared["agreement"], SCORE))


def _arms_of(events: pa.RecordBatch) -> npt.NDArray[Any]:
    return np.asarray(pc.index_in(events["arm"], pa.array(CORE_ARMS)))


def _clusters(column: pa.Array) -> npt.NDArray[Any]:
    return np.asarray(column) % CLUSTERS


def _parts(column: pa.Array, parts: int) -> Counts:
    counted: Counts = np.rint(column.to_numpy().astype(float) * parts).astype(np.int64)
    return counted


def _weights(arms: npt.NDArray[Any], versions: npt.NDArray[Any], weights: Sequence[Weights]) -> Counts:
    by_arm = np.array([[_share_of_the_other(arm, one) for one in weights] for arm in CORE_ARMS])
    # A version newer than the state that was read is as good as the latest known.
    found: Counts = np.rint(by_arm * WEIGHT).astype(np.int64)[arms, np.minimum(versions, len(weights) - 1)]
    return found
