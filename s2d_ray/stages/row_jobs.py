"""Rows through engines: Parquet in, Parquet out, each row once, whatever dies on the way.

Ray Data fans the parts of the input out over engine actors; only their names pass through the driver and the object
store. An actor reads a part when its engine has room for more rows, and writes the part's output when all its rows are
answered.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from s2d_ray.data.records import Completion, Message, Row
from s2d_ray.data.shards import Shard, commit_part, read_part, remaining, rows_of
from s2d_ray.inference.backpressure import Backpressure
from s2d_ray.inference.engine import Activity, EngineDied, RunningEngine
from s2d_ray.inference.start import start_engine
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.stages.placement import engine_places, require_engine
from s2d_ray.stages.progress import Meter, reading, shown

RowFunction = Callable[[Row, Any], Awaitable[list[Row]]]
"""Of an input row and the engine (None where the job has none), the output rows, which carry its `prompt_id`.

A bad row is answered, not raised."""

# A row that kills its engine each time must end the stage at last, not restart engines for ever.
MAX_ENGINE_RESTARTS = 20
# A part is open until its slowest row is answered. Meanwhile the engine works on rows of the parts after it, of which
# so many may be open, as a multiple of those that `concurrent_rows` are.
OPEN_PARTS = 4


@dataclass(frozen=True)
class Pass:
    """One way over the rows: a model, and what is asked of it."""

    model: Path
    build: Callable[[], RowFunction]
    """Makes the row function inside the actor."""


@dataclass(frozen=True)
class RowJob:
    """What an engine actor needs to know. Pickled to every actor."""

    passes: Sequence[Pass]
    """Of models that one engine can load in turn: all of one architecture."""
    engine: Engine | None
    """None where the rows need no model."""
    trust_remote_code: bool
    output: pa.Schema
    concurrent_rows: int | None
    """Rows in flight per engine at most; None for twice the engine's sequences."""
    commit_rows: int
    """Rows per output part; with several passes also the rows between two changes of the model."""
    partition_by: str | None = None
    """Column whose values become sub-folders of the output, `column=value`."""

    @property
    def max_rows(self) -> int:
        """Rows in flight per engine at most."""
        assert self.engine is not None
        return self.concurrent_rows or 2 * self.engine.max_sequences


@dataclass(frozen=True)
class Processed:
    """What one call of `process_rows` did."""

    rows: int
    resumed: int
    """Rows that were there already."""
    tokens: int
    """Generated now."""
    seconds: float
    """From the first engine being ready to the last row, so without start-up."""


def process_rows(job: RowJob, source: Path, target: Path, label: str) -> Processed:
    """Run every row of `source` that is not in `target` yet.

    Parts are committed to `target` as they are finished. `forget_checkpoint` ends the resumability.
    """
    passes = len(job.passes)
    left = remaining(source, target, job.commit_rows)
    with shown(label, passes * (left.done + left.rows), "rows", passes * left.done) as meter:
        if left.parts:  # Without work no engine is started.
            parts = ray.data.from_items(list(left.parts), override_num_blocks=len(left.parts))
            (_by_engines if job.engine else _by_tasks)(parts, target, job, meter)
        now = reading(meter)
    return Processed(left.rows, left.done, int(now.sums.get("tokens", 0)), now.seconds)


def _by_engines(parts: Dataset, target: Path, job: RowJob, meter: Any) -> None:
    assert job.engine is not None
    engine = job.engine
    # While one part is on its way through the models, no other may be.
    open_parts = OPEN_PARTS * math.ceil(job.max_rows / job.commit_rows) if len(job.passes) == 1 else 1
    with engine_places(engine, require_engine(engine), max_restarts=MAX_ENGINE_RESTARTS) as places:
        answered = parts.map_batches(
            EngineActor,
            fn_constructor_args=(job, target, meter),
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


def _finish(answered: Dataset) -> None:
    for _ in answered.iter_batches(batch_size=None, prefetch_batches=0):
        pass


def _by_tasks(parts: Dataset, target: Path, job: RowJob, meter: Any) -> None:
    def answer(batch: pa.Table) -> pa.Table:
        decide, progress = job.passes[0].build(), Meter(meter)

        async def rows(part: Shard) -> list[list[Row]]:
            return [await decide(row, None) for row in read_part(part)]

        parts: list[Shard] = batch.to_pylist()
        for part in parts:
            commit_part(target, part, _table(asyncio.run(rows(part)), job.output), job.partition_by)
            progress.add(ready=1, rows=rows_of(part))
        progress.flush()
        return batch.select(["name"])

    _finish(parts.map_batches(answer, batch_size=None, batch_format="pyarrow"))


def _table(answered: Sequence[list[Row]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([row for rows in answered for row in rows], schema=schema)


class EngineActor:
    """A Ray Data worker: one engine, and the row functions run over as many rows at once as it has room for."""

    def __init__(self, job: RowJob, target: Path, meter: Any) -> None:
        self._job, self._target, self._meter = job, target, Meter(meter)
        self._starting, self._turn = asyncio.Lock(), asyncio.Lock()
        self._engine: _Metered | None = None
        self._functions: list[RowFunction] = []

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """The parts in the batch: all rows answered, pass by pass, and written in the order they came."""
        await self._start()
        parts: list[Shard] = batch.to_pylist()
        for part in parts:
            answered = await self._answer_part(part)
            table = _table(answered, self._job.output)
            await asyncio.to_thread(commit_part, self._target, part, table, self._job.partition_by)
        self._meter.flush()
        yield batch.select(["name"])

    async def _start(self) -> None:
        # Not in __init__: the engine belongs to the event loop that Ray Data runs the batches in.
        async with self._starting:
            if self._engine is None:
                job = self._job
                assert job.engine is not None
                first = job.passes[0].model
                engine = await start_engine(job.engine, first, job.trust_remote_code)
                self._engine = _Metered(engine, self._meter, first)
                self._backpressure = Backpressure(engine, job.max_rows, job.engine.max_sequences)
                self._functions = [turn.build() for turn in job.passes]
                self._meter.add(ready=1)
                self._meter.flush()

    async def _answer_part(self, part: Shard) -> list[list[Row]]:
        answers: list[asyncio.Task[list[Row]]] = []
        # One part after the other, so that none is read before the engine has room for its rows.
        async with self._turn:
            await self._backpressure.room()
            rows = read_part(part)
            for turn, function in zip(self._job.passes, self._functions, strict=True):
                await self._load(turn.model)
                for row in rows:
                    await self._backpressure.enter()
                    answers.append(asyncio.create_task(self._answer(function, row)))
                if len(self._job.passes) > 1:
                    await asyncio.wait(answers)
        return await asyncio.gather(*answers)

    async def _load(self, model: Path) -> None:
        assert self._engine is not None
        try:
            await self._engine.load(model)
        except EngineDied:
            os._exit(1)

    async def _answer(self, function: RowFunction, row: Row) -> list[Row]:
        try:
            answer = await function(row, self._engine)
        except EngineDied:
            # Leave at once: Ray starts a new actor, with a new engine, and gives it these rows again.
            os._exit(1)
        finally:
            self._backpressure.leave()
        self._meter.add(rows=1)
        return answer


class _Metered:
    """An engine that reports the tokens it generates, and knows which model it holds."""

    def __init__(self, engine: RunningEngine, meter: Meter, model: Path) -> None:
        self._engine, self._meter, self._model = engine, meter, model

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        completions = await self._engine.complete(messages, sampling, n, seed)
        self._meter.add(tokens=sum(c.completion_tokens for c in completions))
        return completions

    async def load(self, model: Path) -> None:
        if model != self._model:
            await self._engine.load(model)
            self._model = model

    def activity(self) -> Activity:
        return self._engine.activity()

    def close(self) -> None:
        self._engine.close()
