"""Rows through engines: Parquet in, Parquet out, each row once, whatever dies on the way.

Ray Data reads the rows, fans them out over engine actors and writes the parts; its checkpoint remembers
the rows of every part that was committed, so that a rerun passes over them.
"""

import asyncio
import math
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.checkpoint import CheckpointConfig

from s2d_ray.artifacts import dataset
from s2d_ray.config import Engine, Sampling
from s2d_ray.inference.engine import EngineDied, RunningEngine
from s2d_ray.inference.start import start_engine
from s2d_ray.records import Completion, Message, Row
from s2d_ray.stages.progress import Meter, reading, shown

RowFunction = Callable[[Row, Any], Awaitable[list[Row]]]
"""Of an input row and the engine (None where the job has none), the output rows, which carry its `prompt_id`.

A bad row is answered, not raised."""

# A row that kills its engine each time must end the stage at last, not restart engines for ever.
MAX_ENGINE_RESTARTS = 20
CHECKPOINT = "_checkpoint"


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
    concurrent_rows: int
    """Rows in flight per engine."""
    commit_rows: int
    """Rows per output part; with several passes also the rows between two changes of the model."""
    partition_by: str | None = None
    """Column whose values become sub-folders of the output, `column=value`."""


@dataclass(frozen=True)
class Work:
    """What one call of `process_rows` did."""

    rows: int
    resumed: int
    """Rows that were there already."""
    tokens: int
    """Generated now."""
    seconds: float
    """From the first engine being ready to the last row, so without start-up."""


def process_rows(job: RowJob, source: Path, target: Path, label: str) -> Work:
    """Run every row of `source` that is not in `target` yet.

    Parts are committed to `target` as they are finished. `forget_checkpoint` ends the resumability.
    """
    passes = len(job.passes)
    total = dataset(source).count_rows()
    done = _committed(target)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="prompt_id",
        checkpoint_path=str(target / CHECKPOINT),
        # Deleted by the stage after its manifest is written: between the two a crash must not lose it.
        delete_checkpoint_on_success=False,
    )
    try:
        with shown(label, passes * total, "rows", passes * done) as meter:
            rows = ray.data.read_parquet(str(source), file_extensions=["parquet"])
            parts = rows.repartition(target_num_rows_per_block=job.commit_rows)
            answered = _by_engines(parts, job, meter) if job.engine else _by_tasks(parts, job)
            answered.write_parquet(str(target), partition_cols=[job.partition_by] if job.partition_by else None)
            now = reading(meter)
    finally:
        context.checkpoint_config = None
    return Work(total - done, done, int(now.sums.get("tokens", 0)), now.seconds)


def _by_engines(parts: Dataset, job: RowJob, meter: Any) -> Dataset:
    assert job.engine is not None
    engine = job.engine
    # While one part is on its way through the models, no other may be.
    in_flight = math.ceil(job.concurrent_rows / job.commit_rows) + 1 if len(job.passes) == 1 else 1
    gpus = engine.tensor_parallel if engine.kind == "vllm" and ray.cluster_resources().get("GPU") else 0
    return parts.map_batches(
        EngineActor,
        fn_constructor_args=(job, meter),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=gpus,
        ray_remote_args_fn=_restarts,
        compute=ActorPoolStrategy(
            min_size=max(1, engine.min_engines),
            max_size=engine.max_engines,
            max_tasks_in_flight_per_actor=2 * in_flight,
            max_concurrent_calls_per_actor=in_flight,
        ),
    )


def _by_tasks(parts: Dataset, job: RowJob) -> Dataset:
    def answer(part: pa.Table) -> pa.Table:
        async def rows() -> list[list[Row]]:
            function = job.passes[0].build()
            return [await function(row, None) for row in part.to_pylist()]

        return _table(asyncio.run(rows()), job.output)

    return parts.map_batches(answer, batch_size=None, batch_format="pyarrow")


def _table(answered: Sequence[list[Row]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([row for rows in answered for row in rows], schema=schema)


def _restarts() -> dict[str, int]:
    return {"max_restarts": MAX_ENGINE_RESTARTS}


def forget_checkpoint(target: Path) -> None:
    """Remove what only a resume needs, once the manifest is written."""
    shutil.rmtree(target / CHECKPOINT, ignore_errors=True)


def _committed(target: Path) -> int:
    checkpoint = target / CHECKPOINT
    files = [f for f in checkpoint.glob("*.parquet") if not f.name.endswith(".pending.parquet")]
    return pads.dataset(files, format="parquet").count_rows() if files else 0


class EngineActor:
    """A Ray Data worker: one engine, and the row functions run over many rows at once."""

    def __init__(self, job: RowJob, meter: Any) -> None:
        self._job, self._meter = job, Meter(meter)
        self._admitted = asyncio.Semaphore(job.concurrent_rows)
        self._starting = asyncio.Lock()
        self._engine: _Metered | None = None
        self._functions: list[RowFunction] = []

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """One part: all rows answered, pass by pass, in the order they came."""
        await self._start()
        rows, answered = batch.to_pylist(), list[list[Row]]()
        for turn, function in zip(self._job.passes, self._functions, strict=True):
            await self._load(turn.model)
            answered += await asyncio.gather(*(self._answer(function, row) for row in rows))
        self._meter.flush()
        yield _table(answered, self._job.output)

    async def _start(self) -> None:
        # Not in __init__: the engine belongs to the event loop that Ray Data runs the batches in.
        async with self._starting:
            if self._engine is None:
                job = self._job
                assert job.engine is not None
                first = job.passes[0].model
                engine = await start_engine(job.engine, first, job.trust_remote_code)
                self._engine = _Metered(engine, self._meter, first)
                self._functions = [turn.build() for turn in job.passes]
                self._meter.add(ready=1)
                self._meter.flush()

    async def _load(self, model: Path) -> None:
        assert self._engine is not None
        try:
            await self._engine.load(model)
        except EngineDied:
            os._exit(1)

    async def _answer(self, function: RowFunction, row: Row) -> list[Row]:
        async with self._admitted:
            try:
                answer = await function(row, self._engine)
            except EngineDied:
                # Leave at once: Ray starts a new actor, with a new engine, and gives it these rows again.
                os._exit(1)
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

    def close(self) -> None:
        self._engine.close()
