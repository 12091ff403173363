"""Limits watched request by request: past one, the experiment is rolled back with the reason.

Each limit is a share of requests that may be bad (5% slower than the p95 limit), watched by a CUSUM (Page,
Biometrika 41, 1954): evidence of a share above the limit grows with each bad request and never falls below zero, so
that a good year does not hide a bad minute. It is an e-detector (Shin, Ramdas and Rinaldo, NEJSDS 2, 2024): while
the share keeps to the limit, the requests up to a false alarm number `FALSE_ALARM` or more on average.
"""

from dataclasses import dataclass
from math import log

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.recipes.serve import Guardrails

FALSE_ALARM = 1_000_000
SLOW_SHARE = 0.05
"""What a 95th percentile leaves above it."""


@dataclass
class Cusum:
    """One share that must not exceed a limit, watched."""

    limit: float
    evidence: float = 0.0
    """Log of how much likelier twice the limit is than the limit, over the requests since it last was 0."""
    seen: int = 0
    """Requests since then."""
    bad: int = 0

    def observe(self, bad: bool) -> bool:
        """Take in one request; whether the limit is exceeded. After that it starts anew."""
        if not 0 < self.evidence < log(FALSE_ALARM):
            self.evidence, self.seen, self.bad = 0.0, 0, 0
        worse = 2 * self.limit
        self.evidence += log(worse / self.limit) if bad else log((1 - worse) / (1 - self.limit))
        self.seen += 1
        self.bad += bad
        return self.evidence >= log(FALSE_ALARM)


class GuardrailMonitor:
    """The guardrails of every arm but the teacher, which is what a roll-back returns to."""

    def __init__(self, limits: Guardrails) -> None:
        self._limits = limits
        self._cusums: dict[tuple[CoreArm, str], Cusum] = {}

    def observe(self, event: RequestEvent) -> str | None:
        """Take in a request that has ended; why to roll back, where that is due.

        Only what the experiment assigned counts, and only what was answered or failed by itself.
        """
        if event.version is None or event.arm == "teacher" or event.outcome not in ("answered", "failed"):
            return None
        reasons = []
        if self._limits.error_rate is not None:
            reasons.append(self._exceeded(event.arm, "failed", self._limits.error_rate, event.outcome == "failed"))
        if self._limits.p95_seconds is not None:
            slow = f"took longer than {self._limits.p95_seconds:g} s"
            reasons.append(self._exceeded(event.arm, slow, SLOW_SHARE, event.seconds > self._limits.p95_seconds))
        return "; ".join(reason for reason in reasons if reason) or None

    def _exceeded(self, arm: CoreArm, what: str, limit: float, bad: bool) -> str | None:
        cusum = self._cusums.setdefault((arm, what), Cusum(limit))
        if not cusum.observe(bad):
            return None
        return f"{LABELS[arm]}: {cusum.bad} of the latest {cusum.seen} requests {what}, above {100 * limit:g}%"
