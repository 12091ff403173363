"""What a run's time is spent on: seconds and GPU-seconds for each artifact."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Time spent on one artifact."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    """GPUs that the cluster had given out, over time."""

    def __add__(self, other: "TimeSpent") -> "TimeSpent":
        return TimeSpent(self.seconds + other.seconds, self.gpu_seconds + other.gpu_seconds)

    def share(self, part: float) -> "TimeSpent":
        """The time of one that it was spent on together with others, who bear the rest."""
        return TimeSpent(part * self.seconds, part * self.gpu_seconds)


class WorkAccount:
    """Counts the time of one attempt, for one artifact after the other. Several threads may use it."""

    def __init__(self) -> None:
        self._spent: dict[str, TimeSpent] = {}
        self._on, self._since, self._gpus = "", time.monotonic(), 0.0
        self._guard = threading.Lock()

    @property
    def artifact(self) -> str:
        """What the time is spent on now, by its path within the run's folder; empty where it is not counted."""
        return self._on

    def spend_on(self, artifact: str) -> None:
        """From now on the time is spent on this one; empty for none."""
        with self._guard:
            self._count()
            self._on = artifact

    def use_gpus(self, number: float) -> None:
        """How many GPUs the cluster has given out from now on."""
        with self._guard:
            self._count()
            self._gpus = number

    def spent(self) -> dict[str, TimeSpent]:
        """Artifact → the time up to now."""
        with self._guard:
            self._count()
            return dict(self._spent)

    def _count(self) -> None:
        now = time.monotonic()
        if self._on:
            passed = now - self._since
            self._spent[self._on] = self._spent.get(self._on, TimeSpent()) + TimeSpent(passed, passed * self._gpus)
        self._since = now
