"""How many requests of an arm are answered at once, how many may wait, how long, and when to try again past that."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import ceil
from time import monotonic

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.recipes.serve import ScaledArm, Serve, ServedArm

SMOOTHING = 0.1
"""Weight of the latest request in the mean time that one takes."""


class Refused(Exception):
    """A limit is reached: the client may try again after `retry_after` seconds."""

    def __init__(self, message: str, status: int, retry_after: int) -> None:
        super().__init__(message)
        self.status = status
        """429 past the queue's end, 503 where the server cannot answer now."""
        self.retry_after = retry_after


class Admission:
    """The limits of one arm. Lives in one event loop."""

    def __init__(self, concurrent: int, queued: int, deadline_seconds: float) -> None:
        self._concurrent, self._queued, self._deadline_seconds = concurrent, queued, deadline_seconds
        self._slots = asyncio.Semaphore(concurrent)
        self._mean_seconds = 1.0
        self.answering = 0
        """Requests that have a slot."""
        self.waiting = 0
        """Requests that wait for one."""

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it while the block runs, both within the arm's deadline.

        Raises Refused where too many wait already or none gets free in time, and TimeoutError where the block takes
        too long.
        """
        if self._slots.locked() and self.waiting >= self._queued:
            message = f"{self.answering} requests are being answered and {self.waiting} wait: try again later"
            raise Refused(message, 429, self.retry_after)
        late, admitted = f"no answer within {self._deadline_seconds:g} s", False
        try:
            async with asyncio.timeout(self._deadline_seconds), self.slot():
                admitted = True
                yield
        except TimeoutError as error:
            if admitted:
                raise TimeoutError(late) from error
            raise Refused(f"{late}: too many requests wait", 503, self.retry_after) from error

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it while the block runs, however many wait and however long it takes."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.answering += 1
        start = monotonic()
        try:
            yield
        finally:
            self.answering -= 1
            self._slots.release()
            self._mean_seconds += SMOOTHING * (monotonic() - start - self._mean_seconds)

    @property
    def idle(self) -> bool:
        """Whether a slot is free at once."""
        return not self._slots.locked()

    @property
    def retry_after(self) -> int:
        """Seconds after which one more request should find room, 1 at least."""
        return max(1, ceil(self._mean_seconds * (self.waiting + 1) / self._concurrent))


def admissions(serve: Serve) -> Mapping[CoreArm, Admission]:
    """One gateway's share of every arm's limits. The base arm is answered by the teacher's copies of the model."""
    return {arm: _admission(serve, arm) for arm in LABELS}


def _admission(serve: Serve, arm: CoreArm) -> Admission:
    limits: ServedArm = getattr(serve, arm)
    copies: ScaledArm = serve.student if arm == "student" else serve.teacher
    concurrent = limits.concurrent_requests * copies.max_replicas
    queued = ceil(limits.queued_requests / serve.gateways)
    return Admission(ceil(concurrent / serve.gateways), queued, limits.deadline_seconds)
