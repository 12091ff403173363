"""Code of a row that blocks: it holds the event loop, with all other rows and the engine's calls.

Nothing in the loop can end it, and Python ends no thread. So another thread looks whether the loop still turns; where
it does not, the worker is left to be replaced, with a mark of the row at whose step it stands.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

LOOKS = 10
"""In the time that the loop may be held."""

_worked_on: ContextVar[Any] = ContextVar("worked_on", default=None)


class _Task(asyncio.Task[Any]):
    """A task that tells its context, and with it the row whose work it does, to other threads."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, context: Context | None = None, **options: Any) -> None:
        self.context = copy_context() if context is None else context
        super().__init__(work, context=self.context, **options)


def work_on(row: object) -> None:
    """From now on the task that calls this, and those that it starts, work on that row."""
    _worked_on.set(row)


def leave_if_held(seconds: float, mark: Callable[[Any, str], None]) -> Callable[[], None]:
    """End this process once a step of a row's work has held the running loop for so long.

    Before that `mark` is called, in another thread, with the row as `work_on` was told it, and why. Call what this
    gives to end the watch.
    """
    loop, turns, over = asyncio.get_running_loop(), [0], threading.Event()
    loop.set_task_factory(lambda loop, work, **options: _Task(work, loop=loop, **options))

    def turn() -> None:
        turns[0] += 1
        if not over.is_set():
            loop.call_later(seconds / LOOKS, turn)

    def look() -> None:
        seen, held_by, looks = 0, None, 0
        # Looks are counted and not seconds: this process may have been stopped meanwhile.
        while not over.wait(seconds / LOOKS):
            row = _row_of(loop)
            # In one turn many rows may have a step, each of them a short one.
            same = turns[0] == seen and row is held_by
            seen, held_by, looks = turns[0], row, looks + 1 if same else 0
            if looks > LOOKS and row is not None:
                try:
                    mark(row, f"its code held up all other rows for {seconds:g} s: await there, or asyncio.to_thread")
                finally:
                    os._exit(1)

    turn()
    threading.Thread(target=look, daemon=True).start()
    return over.set


def _row_of(loop: asyncio.AbstractEventLoop) -> Any:
    task = asyncio.current_task(loop)
    return task.context.get(_worked_on) if isinstance(task, _Task) else None
