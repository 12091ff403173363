"""Limits watched request by request: past one, the experiment is rolled back with the reason.

Each limit is a share of requests that may be bad (5% slower than the p95 limit), watched by a CUSUM (Page,
Biometrika 41, 1954): evidence of a share above the limit grows with each bad request and never falls below zero, so
that a good year does not hide a bad minute. It is an e-detector (Shin, Ramdas and Rinaldo, NEJSDS 2, 2024): while
the share keeps to the limit, the requests up to a false alarm number `FALSE_ALARM` or more on average.

No single user can have all others sent back to the teacher: of the bad requests of one only the first few are evidence,
nor has a client more than half of a say, whatever users it names, while the arm answers others. To leave bad requests
out makes no false alarm likelier.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf, log

import numpy as np

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.recipes.serve import Guardrails

FALSE_ALARM = 1_000_000
SLOW_SHARE = 0.05
"""What a 95th percentile leaves above it."""
WORSE = 2
"""How many times the limit a share is that is found fastest."""
OF_ONE_USER, OF_ONE_CLIENT = 5, 10
"""Bad requests of one that are evidence: it takes 20, so four users, and two clients where there are others."""
OTHERS_SECONDS = 3600.0
"""How long a client is remembered as one who is answered."""
NOBODY = (-1, -inf)
OUTAGE = 0.5
STEPS = 32
"""Into which the evidence of one bad request is divided, to work out how long an alarm takes."""


@dataclass
class Cusum:
    """One share that must not exceed a limit, watched."""

    limit: float
    evidence: float = 0.0
    """Log of how much likelier `WORSE` times the limit is than the limit, over the requests since it last was 0."""
    seen: int = 0
    """Requests since then."""
    bad: int = 0
    by_user: Counter[int] = field(default_factory=Counter[int])
    """Bad ones of each user."""
    by_client: Counter[int] = field(default_factory=Counter[int])

    @property
    def up(self) -> float:
        """What a bad request adds to the evidence."""
        return log(WORSE)

    @property
    def down(self) -> float:
        """What a good request takes from it."""
        return log((1 - self.limit) / (1 - WORSE * self.limit))

    def observe(self, bad: bool) -> bool:
        """Take in one request; whether the limit is exceeded. After that it starts anew."""
        if not 0 < self.evidence < log(FALSE_ALARM):
            self.evidence, self.seen, self.bad = 0.0, 0, 0
            self.by_user.clear()
            self.by_client.clear()
        self.evidence += self.up if bad else -self.down
        self.seen += 1
        self.bad += bad
        return self.evidence >= log(FALSE_ALARM)

    def observe_of(self, user: int, client: int, alone: bool, bad: bool) -> bool:
        """`observe` for a user of a client, `alone` where no other client asks. Too much of one is left out."""
        if bad and 0 < self.evidence < log(FALSE_ALARM):
            too_many = self.by_client[client] >= OF_ONE_CLIENT and not alone
            if too_many or self.by_user[user] >= OF_ONE_USER:
                return False
        exceeded = self.observe(bad)
        if bad:
            self.by_user[user] += 1
            self.by_client[client] += 1
        return exceeded


@dataclass(frozen=True, slots=True)
class Needs:
    """Requests that a roll-back takes."""

    in_a_row: int
    """Bad ones, none good between them."""
    on_average: Mapping[float, float]
    """Share of requests that are bad → requests up to the alarm on average."""


def needs(limit: float) -> Needs:
    """What it takes to roll back for a share above that limit: at twice the limit, and where half is bad."""
    shares = sorted({WORSE * limit, max(OUTAGE, WORSE * limit)})
    return Needs(ceil(log(FALSE_ALARM) / log(WORSE)), {share: requests_to_alarm(limit, share) for share in shares})


def requests_to_alarm(limit: float, share: float) -> float:
    """On average, where that share of requests is bad and the evidence is 0 at first.

    The evidence is a Markov chain; it is solved on a grid, a step that ends between two levels being either by lot.
    """
    cusum = Cusum(limit)
    levels = ceil(log(FALSE_ALARM) / cusum.up * STEPS)
    at = np.arange(levels)
    after_good = np.maximum(at - cusum.down / cusum.up * STEPS, 0)
    lower = after_good.astype(int)
    left = np.eye(levels) - share * np.eye(levels, k=STEPS)
    np.subtract.at(left, (at, lower), (1 - share) * (1 - after_good + lower))
    np.subtract.at(left, (at, np.minimum(lower + 1, levels - 1)), (1 - share) * (after_good - lower))
    return float(np.linalg.solve(left, np.ones(levels))[0])


class GuardrailMonitor:
    """The guardrails of every arm but the teacher, which is what a roll-back returns to."""

    def __init__(self, limits: Guardrails) -> None:
        self._limits = limits
        self._cusums: dict[tuple[CoreArm, str], Cusum] = {}
        self._answered: dict[CoreArm, tuple[tuple[int, float], tuple[int, float]]] = {}
        """Arm → the client that it answered last, and the last one that is not this one, with the times."""

    def observe(self, event: RequestEvent) -> str | None:
        """Take in a request that has ended; why to roll back, where that is due.

        Only what the experiment assigned counts, and only what was answered or failed by itself.
        """
        if event.version is None or event.arm == "teacher" or event.outcome not in ("answered", "failed"):
            return None
        if event.outcome == "answered":
            self._remember(event)
        reasons = []
        if self._limits.error_rate is not None:
            reasons.append(self._exceeded(event, "failed", self._limits.error_rate, event.outcome == "failed"))
        if self._limits.p95_seconds is not None:
            slow = f"took longer than {self._limits.p95_seconds:g} s"
            reasons.append(self._exceeded(event, slow, SLOW_SHARE, event.seconds > self._limits.p95_seconds))
        return "; ".join(reason for reason in reasons if reason) or None

    def _exceeded(self, event: RequestEvent, what: str, limit: float, bad: bool) -> str | None:
        cusum, client = self._cusums.setdefault((event.arm, what), Cusum(limit)), _client(event)
        latest, before = self._answered.get(event.arm, (NOBODY, NOBODY))
        # What others are answered speaks against the client, and not against the arm.
        alone = event.time - (latest if latest[0] != client else before)[1] > OTHERS_SECONDS
        if not cusum.observe_of(event.cluster, client, alone, bad):
            return None
        return f"{LABELS[event.arm]}: {cusum.bad} of the latest {cusum.seen} requests {what}, above {100 * limit:g}%"

    def _remember(self, event: RequestEvent) -> None:
        latest, before = self._answered.get(event.arm, (NOBODY, NOBODY))
        self._answered[event.arm] = (_client(event), event.time), latest if latest[0] != _client(event) else before


def _client(event: RequestEvent) -> int:
    return event.cluster if event.rater is None else event.rater
