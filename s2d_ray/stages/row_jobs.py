"""Rows through engines: Parquet in, Parquet out, each row once, whatever dies on the way.

Ray Data fans the parts of the input out over engine actors (`engine_actor.py`), or over tasks where no engine is
needed; only their names pass through the driver and the object store. Where there are several passes, of other models
or over other rows, the parts of the first come first, then those of the second, and so on: an engine changes its model
only when it has no part of the model before any more.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from s2d_ray.data.contents import Contents, check_contents
from s2d_ray.data.shards import Shard, commit_part, mark_failed, marked_failed, read_part, remaining, rows_of
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Engine
from s2d_ray.stages.boundary import RowPlace, RowWork, table_of
from s2d_ray.stages.engine_actor import EngineActor
from s2d_ray.stages.held_loop import leave_if_held
from s2d_ray.stages.placement import engine_places, require_engine
from s2d_ray.stages.progress import Meter, reading, shown

# A row that kills its engine each time must end the stage at last, not restart engines for ever.
MAX_ENGINE_RESTARTS = 20
# A part is open until its slowest row is answered. Meanwhile the engine works on rows of the parts after it, of which
# so many may be open, as a multiple of those that `concurrent_rows` are.
OPEN_PARTS = 4


@dataclass(frozen=True)
class Rows:
    """Rows to go over, and where what comes of them goes."""

    source: Path
    """A folder of Parquet."""
    target: Path
    """Parts are committed to it as they are finished."""
    output: pa.Schema
    commit_rows: int
    """Rows per output part."""
    partition_by: str | None = None
    """Column whose values become sub-folders of the output, `column=value`."""

    def commit(self, part: Shard, output: pa.Table) -> None:
        """Write what comes of a part, all of it or nothing."""
        commit_part(self.target, part, output, self.partition_by)


@dataclass(frozen=True)
class Pass:
    """One way over rows: a model, and what is asked of it."""

    rows: Rows
    model: Path
    build: Callable[[], RowWork]
    """Makes, inside the actor, what is done with each row."""
    rows_each: int = 1
    """Output rows of an input row."""


@dataclass(frozen=True)
class RowJob:
    """What an engine actor needs to know. Pickled to every actor."""

    passes: Sequence[Pass]
    """Of models that one engine can load in turn: all of one architecture. Those of one model follow each other."""
    engine: Engine | None
    """None where the rows need no model."""
    trust_remote_code: bool
    concurrent_rows: int | None
    """Rows in flight per engine at most; None for twice the engine's sequences."""
    method_timeout: float
    """Seconds that the work on one row may take."""
    chat: Chat = DEFAULT_CHAT
    """How chats are put to the models."""

    @property
    def max_rows(self) -> int:
        """Rows in flight per engine at most."""
        assert self.engine is not None
        return self.concurrent_rows or 2 * self.engine.max_sequences

    @property
    def held_timeout(self) -> float:
        """Seconds that a step of it may take, in which all other rows stand still, and no call must come to its end."""
        return min(self.method_timeout, math.inf if self.engine is None else self.engine.call_timeout / 2)

    def mark_failed(self, place: RowPlace, reason: str) -> None:
        """That row has failed, and must not be worked on again."""
        mark_failed(self.passes[place.part["turn"]].rows.target, place.part, place.index, reason)


@dataclass(frozen=True)
class Processed:
    """What one call of `process_rows` did."""

    rows: int
    resumed: int
    """Rows that were there already."""
    tokens: int
    """Generated now."""
    loads: int
    """How often an engine was given a model, its first one included."""
    seconds: float
    """From the first engine being ready to the last row, so without start-up."""


@dataclass(frozen=True)
class _Work:
    """What is left of a job."""

    parts: Sequence[Shard]
    """In the order of their passes."""
    rows: int
    done: int
    """Rows that were there already."""
    expected: Mapping[Path, Contents]
    """Target → what it holds once all is done."""


def process_rows(job: RowJob, label: str) -> Processed:
    """Run every pass over those of its rows that it has not gone over yet.

    Raises UserError where what is there in the end is not what comes of all rows, each once.
    """
    left = _remaining(job.passes)
    with shown(label, left.done + left.rows, "rows", left.done) as meter:
        if left.parts:  # Without work no engine is started.
            parts = ray.data.from_items(list(left.parts), override_num_blocks=len(left.parts))
            (_by_engines if job.engine else _by_tasks)(parts, job, meter)
        now = reading(meter)
    for target, contents in left.expected.items():
        check_contents(target, contents)
    tokens, loads = (int(now.sums.get(name, 0)) for name in ("tokens", "loads"))
    return Processed(left.rows, left.done, tokens, loads, now.seconds)


def _remaining(passes: Sequence[Pass]) -> _Work:
    """What is left of all passes, in their order. Those over the same rows make parts of their own, side by side."""
    turns: dict[Path, list[int]] = {}
    for turn, each in enumerate(passes):
        turns.setdefault(each.rows.target, []).append(turn)
    parts, rows, done, expected = list[Shard](), 0, 0, dict[Path, Contents]()
    for own in turns.values():
        over = passes[own[0]].rows
        left = remaining(over.source, over.target, over.commit_rows, len(own))
        parts += [{**part, "turn": own[part["turn"]]} for part in left.parts]
        rows, done = rows + left.rows, done + left.done
        expected[over.target] = left.source.times(sum(passes[turn].rows_each for turn in own))
    return _Work(sorted(parts, key=lambda part: part["turn"]), rows, done, expected)


def _by_engines(parts: Dataset, job: RowJob, meter: Any) -> None:
    assert job.engine is not None
    engine = job.engine
    open_parts = _open_parts(job, parts.num_blocks())
    with engine_places(engine, require_engine(engine), max_restarts=MAX_ENGINE_RESTARTS) as places:
        answered = parts.map_batches(
            EngineActor,
            fn_constructor_args=(job, meter),
            # A block is a part. Ray Data takes no `None` where GPUs are asked for.
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                min_size=engine.min_engines,
                max_size=engine.max_engines,
                max_tasks_in_flight_per_actor=2 * open_parts,
                max_concurrent_calls_per_actor=open_parts,
            ),
            **places,
        )
        _finish(answered)


def _open_parts(job: RowJob, parts: int) -> int:
    """How many parts an engine may have open at once."""
    assert job.engine is not None
    enough = OPEN_PARTS * math.ceil(job.max_rows / min(turn.rows.commit_rows for turn in job.passes))
    # Ray Data queues twice as many at an engine before it starts another one: no more than the engine's share, which
    # of several passes still has all parts of one.
    return enough if len(job.passes) == 1 else min(enough, max(1, parts // (2 * job.engine.max_engines)))


def _finish(answered: Dataset) -> None:
    for _ in answered.iter_batches(batch_size=None, prefetch_batches=0):
        pass


def _by_tasks(parts: Dataset, job: RowJob, meter: Any) -> None:
    def answer(batch: pa.Table) -> pa.Table:
        return _answer_parts(batch, job, meter)

    _finish(parts.map_batches(answer, batch_size=None, batch_format="pyarrow", max_retries=MAX_ENGINE_RESTARTS))


def _answer_parts(batch: pa.Table, job: RowJob, meter: Any) -> pa.Table:
    [turn] = job.passes
    work, progress = turn.build(), Meter(meter)

    async def make(part: Shard) -> None:
        end_watch = leave_if_held(job.held_timeout, job.mark_failed)
        failed, rows = marked_failed(turn.rows.target, part), read_part(part)
        answered = [
            await work.answered(row, None, RowPlace(part, index), failed, job.method_timeout)
            for index, row in enumerate(rows)
        ]
        end_watch()
        turn.rows.commit(part, table_of(turn.rows.output, rows, answered, work))

    parts: list[Shard] = batch.to_pylist()
    # Not `asyncio.run`: that waits for what does not heed its cancellation, and for its threads.
    with closing(asyncio.new_event_loop()) as loop:
        for part in parts:
            loop.run_until_complete(make(part))
            progress.add(ready=1, rows=rows_of(part))
    progress.flush()
    return batch.select(["name"])
