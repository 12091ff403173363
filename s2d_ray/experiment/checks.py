"""Whether the arms can be compared at all: users came to them as planned, and their answers are rated equally often.

Both checks hold however often they are looked at: the chance that one ever fails without a cause is 5%.

- Assignment: which arm the first user of each cell came to is drawn with the shares in force then. A test martingale
  weighs these draws against all arms being drawn as much too often or too seldom, for a mixture of how much (as
  Lindon and Malek do for fixed shares, NeurIPS 2022; here by odds, so that weights may change on the way). A user
  counts once, with the first request: what an arm does to its users, who may come again or not, is not seen in it.
- Ratings: how many times as often answers of one arm are rated as those of the other; the log of it is a sequence like
  that of the ratings themselves. A ratio, for it is the ratings that must be alike: where one arm is rated twice as
  often, half of its ratings are of a kind that the other does not have, be that 1% of the answers or half of them. The
  check fails only where the ratio is surely beyond what can matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from s2d_ray.arms import CORE_ARMS, CoreArm
from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.assignment import CELLS, CLUSTERS
from s2d_ray.experiment.sequences import ALPHA, MIN_USERS, Array, Moments, radius
from s2d_ray.recipes.serve import Weights

_TIMES = np.geomspace(0.02, 2.56, 8)
LOG_ODDS: Array = np.concatenate([_TIMES, -_TIMES])
"""Log of how many times too high or too low an arm's odds may be: from 2% to 13 times."""
TOLERANCE = 1.1
"""How many times as often one arm may be rated. One in eleven of its ratings then has no like in the other arm: half a
point away from the rest, which is far, they move its mean by 4.5 points; the usual margin is 5."""
_NARROWEST = float(np.log(2))
"""Half the width of the log ratio at which its sequence is narrowest: so that twice as often is found early."""
_MORE_RATERS = 2
UNSEEN = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class AssignmentCheck:
    """Whether users come to the arms in the shares that the weights say."""

    users: int
    """That were counted: the first of each cell."""
    seen: Mapping[CoreArm, float]
    """Share of them by arm; all 0 without users."""
    planned: Mapping[CoreArm, float]
    """What the weights in force at their first requests say."""
    evidence: float
    """Log of how much likelier what was seen is under other shares than under the planned ones."""

    @property
    def passed(self) -> bool:
        """Whether chance may have done it."""
        return bool(self.evidence < -np.log(ALPHA))


@dataclass(frozen=True, slots=True)
class RatingCheck:
    """Whether answers of the student and of the teacher are rated equally often, at the same times."""

    rated: Mapping[CoreArm, float]
    """Share of the answers of these two that are rated; nothing while `ratio` is None."""
    ratio: Interval | None
    """The student's share by the teacher's; `n` answers. None while either has too few users, or both raters."""

    @property
    def passed(self) -> bool:
        """Whether they may be rated as often as each other, give or take `TOLERANCE`."""
        return self.ratio is None or (self.ratio.low <= TOLERANCE and self.ratio.high >= 1 / TOLERANCE)


class FirstRequests:
    """The first request of each cell of users, from requests in any order."""

    def __init__(
        self,
        time: npt.NDArray[np.int64] | None = None,
        arm: npt.NDArray[np.int8] | None = None,
        version: npt.NDArray[np.int32] | None = None,
    ) -> None:
        """Of none; or as `arrays` had them."""
        self._time = np.full(CELLS, UNSEEN) if time is None else time
        self._arm = np.zeros(CELLS, np.int8) if arm is None else arm
        self._version = np.zeros(CELLS, np.int32) if version is None else version

    @property
    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8], npt.NDArray[np.int32]]:
        """By cell: when the first request came in, in microseconds since 1970, to which arm, by which version."""
        return self._time, self._arm, self._version

    def add(self, requests: pa.RecordBatch) -> None:
        """Take in requests that the experiment assigned, with their time, cell, arm and version."""
        time, cell = requests["time"].cast(pa.int64()).to_numpy(), requests["cluster"].to_numpy()
        arm = np.asarray(pc.index_in(requests["arm"], pa.array(CORE_ARMS)))
        version = requests["version"].to_numpy()
        # Of two at the same microsecond one is the first, whatever the order they are read in.
        order = np.lexsort([arm, version, time, cell])
        cells, first = np.unique(cell[order], return_index=True)
        at = order[first]
        same, sooner = time[at] == self._time[cells], time[at] < self._time[cells]
        rank = version[at].astype(np.int64) * len(CORE_ARMS) + arm[at]
        known_rank = self._version[cells].astype(np.int64) * len(CORE_ARMS) + self._arm[cells]
        earlier = sooner | (same & (rank < known_rank))
        at, cells = at[earlier], cells[earlier]
        self._time[cells], self._arm[cells], self._version[cells] = time[at], arm[at], version[at]

    def counts(self, versions: int, until: float) -> Array:
        """How many of these came to which arm: by version and arm, those before `until`, in seconds since 1970.

        Cells below `CLUSTERS` are left out: older versions of this program stored no others, and whoever is in one of
        those would be counted in another cell again. So are versions that are newer than the state that was read.
        """
        known = (self._time < until * 1e6) & (self._version < versions)
        known[:CLUSTERS] = False
        found = np.zeros((versions, len(CORE_ARMS)))
        np.add.at(found, (self._version[known], self._arm[known]), 1)
        return found


def check_assignment(counts: Array, weights: Sequence[Weights]) -> AssignmentCheck:
    """From users by version and arm, and the weights of each version."""
    shares = np.array([[getattr(w, arm) for arm in CORE_ARMS] for w in weights])
    users, by_version = counts.sum(), counts.sum(1)
    return AssignmentCheck(
        users=int(users),
        seen=_by_arm(counts.sum(0) / max(users, 1)),
        planned=_by_arm(by_version @ shares / max(users, 1)),
        evidence=_evidence(counts, shares),
    )


def _by_arm(values: npt.NDArray[np.float64]) -> dict[CoreArm, float]:
    return {arm: float(value) for arm, value in zip(CORE_ARMS, values, strict=True)}


def _evidence(counts: Array, shares: Array) -> float:
    """Log of the mean, over arms and odds, of the likelihood with those odds for that arm by the planned one."""
    normal = np.log1p(shares[:, :, None] * np.expm1(LOG_ODDS))
    ratios = counts.sum(0)[:, None] * LOG_ODDS - np.tensordot(counts.sum(1), normal, axes=1)
    return float(special.logsumexp(ratios) - np.log(ratios.size))


def check_ratings(student: Moments, teacher: Moments, answers: tuple[int, int]) -> RatingCheck:
    """From so many answers of each, 1 where one is rated and 0 where not, weighted for the same mix of times."""
    arms = (student, teacher)
    if min(arm.clusters for arm in arms) < MIN_USERS or sum(map(_raters, arms)) < MIN_USERS:
        return RatingCheck({}, None)
    rated: dict[CoreArm, float] = {"student": float(student.mean), "teacher": float(teacher.mean)}
    usual = (student.total + teacher.total) / (student.count + teacher.count)
    of_arms = (_log_share(arm, arm.count / n, usual) for arm, n in zip(arms, answers, strict=True))
    (one, doubt), (two, more_doubt) = of_arms
    reach = radius(doubt + more_doubt, _NARROWEST)
    value, low, high = (float(np.exp(one - two + off)) for off in (0.0, -reach, reach))
    return RatingCheck(rated, Interval(value, low, high, sum(answers)))


def _raters(rated: Moments) -> float:
    """As many users as the ratings are worth who rate alike."""
    return float(rated.total**2 / max(rated.totals_squared, np.finfo(float).tiny))


def _log_share(rated: Moments, weight: float, usual: float) -> tuple[float, float]:
    """Log of the share, and its variance, as if some more raters had been seen among as many answers as usual.

    For one arm may have no rater as yet. They rate as much as one of the arm does, at least one answer of that weight.
    """
    each = max(weight, rated.totals_squared / max(rated.total, np.finfo(float).tiny))
    total = rated.total + _MORE_RATERS * each
    variance = rated.variance * rated.count**2 + _MORE_RATERS * each**2
    return float(np.log(total / (rated.count + _MORE_RATERS * each / usual))), float(variance / total**2)
