"""An engine whose calls end within a time, so that one that hangs cannot hold up a stage for ever."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from s2d_ray.data.records import Completion, Message
from s2d_ray.inference.engine import Activity, EngineDied, EngineError, RunningEngine
from s2d_ray.recipes.sections import Sampling


class TimedEngine:
    """A call that takes longer than `seconds` is ended: it failed, or with it the engine if that has stopped."""

    def __init__(self, engine: RunningEngine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds
        self._asked = time.monotonic()
        """When the first call came of those since it last gave a token."""

    @property
    def alive(self) -> bool:
        """Whether it can still answer: not where it gave no token for all that time though it was asked."""
        now = self.activity()
        busy = now.running + now.waiting > 0
        stopped = busy and now.progressed < self._asked < time.monotonic() - self._seconds
        return self._engine.alive and not stopped

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """As the engine does. Raises EngineDied where in all that time it gave no token to any call."""
        async with self._limit(self._begin()):
            return await self._engine.complete(messages, sampling, n, seed)

    async def score(self, messages: Sequence[Message]) -> list[float]:
        """As the engine does. Raises as `complete` does."""
        async with self._limit(self._begin()):
            return await self._engine.score(messages)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """As the engine does, within the same time. Raises as `complete` does."""
        began = self._begin()
        async with aclosing(self._engine.stream(messages, sampling, seed)) as pieces:
            while True:
                # Not around the whole: what the reader does between two pieces must not be interrupted.
                async with self._limit(began):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece

    def _begin(self) -> float:
        now = self.activity()
        if now.progressed >= self._asked or not now.running + now.waiting:
            self._asked = time.monotonic()
        return time.monotonic()

    @asynccontextmanager
    async def _limit(self, began: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(began + self._seconds - time.monotonic()) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            if self.activity().progressed < began:
                raise EngineDied(f"the engine gave no token for {self._seconds:g} s (engine.call_timeout)") from error
            raise EngineError(f"no answer within {self._seconds:g} s (engine.call_timeout)") from error

    def activity(self) -> Activity:
        """What the engine is doing."""
        return self._engine.activity()

    def adapted(self) -> "TimedEngine":
        """The engine with its adapter, in the same time."""
        return TimedEngine(self._engine.adapted(), self._seconds)

    async def load(self, model: Path) -> None:
        """As the engine does; loading has no limit."""
        await self._engine.load(model)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()
