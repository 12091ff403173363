"""How many rows an engine is given at once: as many as keep it full, by what it says it is doing.

Rows differ in how many calls they make and how long those take, so no fixed number of rows is right.
"""

import asyncio

from s2d_ray.inference.engine import RunningEngine

SECONDS_BETWEEN_LOOKS = 0.005
TURNS_TO_FIRST_CALL = 5
"""Turns of the event loop in which a row that was let in makes its first calls, so that they are seen."""


class Backpressure:
    """Lets rows in, one after the other, while the engine's queue is short.

    Short is less than `max_sequences` waiting: then even if all that it works on ends in one step, the next step is
    full again.
    """

    def __init__(self, engine: RunningEngine, max_rows: int, max_sequences: int) -> None:
        self._engine, self._max_rows, self._max_sequences = engine, max_rows, max_sequences
        self._rows = 0

    async def room(self) -> None:
        """Wait until a row may enter. One caller at a time."""
        while self._rows >= self._max_rows or (self._rows and self._queue_is_full()):
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def _queue_is_full(self) -> bool:
        return self._engine.activity().waiting >= self._max_sequences

    async def enter(self) -> None:
        """A row is about to make its calls."""
        for _ in range(TURNS_TO_FIRST_CALL):
            await asyncio.sleep(0)
        await self.room()
        self._rows += 1

    def leave(self) -> None:
        """A row that entered is answered."""
        self._rows -= 1
