"""Whose turn it is: in which order an engine takes up the parts that it was given, and when it changes its model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Place = tuple[int, str]
"""Number of the model, name of the part."""


class Turns:
    """Parts begin one after the other, the first of those that wait first, and are then worked on side by side.

    The first of another model begins when all before it are over. So an engine that is given parts in the order of
    their models takes each model up once, though they may reach it a little out of order.
    """

    def __init__(self) -> None:
        self._waiting: list[Place] = []
        self._open: list[Place] = []
        self._beginning: Place | None = None
        self._closed = False
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[Callable[[], None]]:
        """Wait until the part may begin; it is over with the block. Call what this gives to let the next one begin."""
        self._waiting.append(place)
        while not self._may_begin(place):
            await self._changed.wait()
        self._waiting.remove(place)
        self._open.append(place)
        self._beginning = place

        def begun() -> None:
            if self._beginning == place:
                self._beginning = None
            self._wake()

        try:
            yield begun
        finally:
            self._open.remove(place)
            begun()

    def _may_begin(self, place: Place) -> bool:
        blocked = self._closed or self._beginning is not None or place != min(self._waiting)
        return not blocked and all(model == place[0] for model, _ in self._open)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def close(self) -> None:
        """Let no further part begin, and wait until those that have begun are over."""
        self._closed = True
        while self._open:
            await self._changed.wait()
