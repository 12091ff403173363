"""An engine whose calls end within a time, so that one that hangs cannot hold up a stage for ever."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from s2d_ray.config import Sampling
from s2d_ray.inference.engine import Activity, EngineDied, EngineError, RunningEngine
from s2d_ray.records import Completion, Message


class TimedEngine:
    """A call that takes longer than `seconds` is ended: it failed, or with it the engine if that has stopped."""

    def __init__(self, engine: RunningEngine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """As the engine does. Raises EngineDied where in all that time it gave no token to any call."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds) as limit:
                return await self._engine.complete(messages, sampling, n, seed)
        except TimeoutError as error:
            if not limit.expired():
                raise
            if self.activity().progressed < began:
                raise EngineDied(f"the engine gave no token for {self._seconds:g} s (engine.call_timeout)") from error
            raise EngineError(f"no answer within {self._seconds:g} s (engine.call_timeout)") from error

    def activity(self) -> Activity:
        """What the engine is doing."""
        return self._engine.activity()

    async def load(self, model: Path) -> None:
        """As the engine does; loading has no limit."""
        await self._engine.load(model)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()
