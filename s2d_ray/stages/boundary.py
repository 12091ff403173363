"""The one boundary at which an error becomes data: a row's."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from s2d_ray.data.records import Row
from s2d_ray.data.shards import Shard
from s2d_ray.inference.engine import EngineDied, EngineError
from s2d_ray.stages.held_loop import work_on

T = TypeVar("T")

LONGEST_REASON = 1000
"""Characters."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row is among those that are worked on."""

    part: Shard
    index: int


@dataclass(frozen=True, slots=True)
class RowWork:
    """What is done with each row. Output rows carry the `prompt_id` of theirs."""

    answer: Callable[[Row, Any], Awaitable[list[Row]]]
    """Of an input row and the engine (None where the job has none), the output rows. What it raises fails the row."""
    failed: Callable[[Row, str], list[Row]]
    """Of an input row and the reason in one line, the output rows that say that it failed."""
    limits_itself: bool = False
    """Whether it puts a limit on each of several things that it does, so that the whole has none."""

    async def answered(
        self, row: Row, engine: Any, place: RowPlace, marked: Mapping[int, str], seconds: float
    ) -> list[Row]:
        """The output rows, whatever becomes of the work; `marked` are the rows of its part that have failed already.

        Raises EngineDied.
        """
        if place.index in marked:
            return self.failed(row, marked[place.index])
        work_on(place)
        answer = await or_failed(self.answer(row, engine), None if self.limits_itself else seconds)
        return self.failed(row, answer.reason) if isinstance(answer, Failed) else answer


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of what a row would have given."""

    reason: str


async def or_failed(work: Awaitable[T], seconds: float | None) -> T | Failed:
    """What work on one row gives; a bad row, or a bug in the user's method, task or rule, is data.

    So is work that takes longer than that, whether it ends when it is told to or not.
    Raises EngineDied, which is no row's fault.
    """
    task = asyncio.ensure_future(_without_exit(work))
    # Not `asyncio.timeout`: that waits for what does not heed its cancellation.
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        return Failed(f"no end within {seconds:g} s (engine.method_timeout)")
    if task.cancelled():
        return Failed("CancelledError")
    try:
        return task.result()
    except EngineDied:
        raise
    except EngineError as error:
        return Failed(_in_one_line(str(error)))
    except Exception as error:
        return Failed(_reason(error))


async def _without_exit(work: Awaitable[T]) -> T:
    try:
        return await work
    except SystemExit as error:  # It would end the event loop, with all other rows.
        raise RuntimeError("SystemExit") from error


def table_of(schema: pa.Schema, rows: Sequence[Row], answered: Sequence[list[Row]], work: RowWork) -> pa.Table:
    """The output rows as they are written. An input row whose output cannot be written has failed."""
    try:
        return _table(schema, answered)
    except Exception:
        return _table(schema, [_or_failed(schema, row, own, work) for row, own in zip(rows, answered, strict=True)])


def _or_failed(schema: pa.Schema, row: Row, own: list[Row], work: RowWork) -> list[Row]:
    try:
        _table(schema, [own])
    except Exception as error:
        return work.failed(row, f"cannot be written: {_reason(error)}")
    return own


def _table(schema: pa.Schema, answered: Sequence[list[Row]]) -> pa.Table:
    return pa.Table.from_pylist([row for own in answered for row in own], schema=schema)


def _reason(error: Exception) -> str:
    try:
        said = str(error)
    except Exception:
        said = ""
    name = type(error).__name__
    return _in_one_line(f"{name}: {said}" if said else name)


def _in_one_line(reason: str) -> str:
    line = " ".join(reason.split())[:LONGEST_REASON]
    # What it quotes may be what cannot be written.
    return line.encode(errors="backslashreplace").decode()
