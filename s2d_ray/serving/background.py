"""Work beside the requests, which nobody waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundWork:
    """Coroutines that run until they end or are stopped. Lives in one event loop."""

    def __init__(self) -> None:
        # The loop itself keeps no task from being collected as garbage.
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it from now on."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel all, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
