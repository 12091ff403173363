"""How many requests of an arm are answered at once, how many may wait, and when to try again past that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from time import monotonic

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
    """The door of one arm. Lives in one event loop."""

    def __init__(self, concurrent: int, queued: int) -> None:
        self._concurrent, self._queued = concurrent, queued
        self._slots = asyncio.Semaphore(concurrent)
        self._mean_seconds = 1.0
        self.answering = 0
        """Requests that have a slot."""
        self.waiting = 0
        """Requests that wait for one."""

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it while the block runs. Raises Refused where too many wait already."""
        if self._slots.locked() and self.waiting >= self._queued:
            message = f"{self.answering} requests are being answered and {self.waiting} wait: try again later"
            raise Refused(message, 429, self.retry_after)
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
