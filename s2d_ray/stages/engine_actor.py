"""The worker that has an engine: it answers the rows of the parts that it is given, and writes what comes of them.

It reads a part when its engine has room for more rows, and writes the part's output when all its rows are answered. On
a node that is about to be taken away it finishes the parts that it has begun, and leaves the others to the one that Ray
starts in its place.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import ray

from s2d_ray.data.records import Completion, Message, Row
from s2d_ray.data.shards import Shard, is_done, marked_failed, read_part
from s2d_ray.inference.backpressure import Backpressure
from s2d_ray.inference.engine import Activity, EngineDied, RunningEngine
from s2d_ray.inference.start import start_engine
from s2d_ray.recipes.sections import Sampling
from s2d_ray.stages.boundary import RowPlace, RowWork, table_of
from s2d_ray.stages.held_loop import leave_if_held
from s2d_ray.stages.progress import Meter
from s2d_ray.stages.turns import Turns

if TYPE_CHECKING:
    from s2d_ray.stages.row_jobs import RowJob

T = TypeVar("T")
THREADS = 8
"""Of an actor, for the files of its parts."""
SECONDS_BETWEEN_LOOKS = 1.0
"""How often an actor looks whether its node is about to be taken away."""


def draining() -> bool:
    """Whether Ray was told that the node of this process is about to be taken away."""
    return ray.get_runtime_context().get_node_id() in ray._private.state.state.get_draining_nodes()


class EngineActor:
    """A Ray Data worker: one engine, and the row functions run over as many rows at once as it has room for."""

    def __init__(self, job: "RowJob", meter: Any) -> None:
        self._job, self._meter = job, Meter(meter)
        self._turns = Turns()
        self._works = [turn.build() for turn in job.passes]
        models = list(dict.fromkeys(turn.model for turn in job.passes))
        self._models = [models.index(turn.model) for turn in job.passes]
        self._engine: _Metered | None = None
        self._watch: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(THREADS)

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """The parts in the batch: all rows answered, and written in the order they came."""
        # Not in __init__: this and the engine belong to the event loop that Ray Data runs the batches in.
        if self._watch is None:
            leave_if_held(self._job.held_timeout, self._job.mark_failed)
            self._watch = asyncio.create_task(self._leave_in_time())
        parts: list[Shard] = batch.to_pylist()
        for part in parts:
            await self._make(part)
        self._meter.flush()
        yield batch.select(["name"])

    async def _leave_in_time(self) -> None:
        while not await self._in_thread(draining):
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        await self._turns.close()
        # What was made last has its time to be reported.
        self._meter.flush()
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        # Ray starts another actor where there is room for it, and gives it the parts that wait here.
        os._exit(1)

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        # Not `asyncio.to_thread`, whose threads are those of methods too: ones that hang may have taken them all.
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    async def _make(self, part: Shard) -> None:
        turn = part["turn"]
        over = self._job.passes[turn]
        # One part after the other, so that none is read before the engine has room for its rows. In line at once: what
        # is awaited before may come back in another order.
        async with self._turns.turn((self._models[turn], f"{turn:04} {part['name']}")) as begun:
            # Ray repeats the calls of an actor that ended, those too of which it had not yet heard that they are done.
            if await self._in_thread(is_done, over.rows.target, part, over.rows.partition_by):
                return
            await self._hold(over.model)
            await self._backpressure.room()
            answers: list[asyncio.Task[list[Row]]] = []
            work, rows = self._works[turn], read_part(part)
            failed = await self._in_thread(marked_failed, over.rows.target, part)
            for index, row in enumerate(rows):
                await self._backpressure.enter()
                answers.append(asyncio.create_task(self._answer(work, row, RowPlace(part, index), failed)))
            begun()
            answered = await asyncio.gather(*answers)
            table = await self._in_thread(table_of, over.rows.output, rows, answered, work)
            await self._in_thread(over.rows.commit, part, table)

    async def _hold(self, model: Path) -> None:
        """The engine with this model: started, or loaded, where it has another one."""
        if self._engine is None:
            self._engine = await self._start(model)
        try:
            await self._engine.load(model)
        except EngineDied:
            os._exit(1)

    async def _start(self, model: Path) -> "_Metered":
        job = self._job
        assert job.engine is not None
        engine = await start_engine(job.engine, model, job.trust_remote_code, chat=job.chat)
        self._backpressure = Backpressure(engine, job.max_rows, job.engine.max_sequences)
        self._meter.add(ready=1, loads=1)
        self._meter.flush()
        return _Metered(engine, self._meter, model)

    async def _answer(self, work: RowWork, row: Row, place: RowPlace, failed: Mapping[int, str]) -> list[Row]:
        try:
            answer = await work.answered(row, self._engine, place, failed, self._job.method_timeout)
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

    async def score(self, messages: Sequence[Message]) -> list[float]:
        return await self._engine.score(messages)

    async def load(self, model: Path) -> None:
        if model != self._model:
            await self._engine.load(model)
            self._model = model
            self._meter.add(loads=1)

    def activity(self) -> Activity:
        return self._engine.activity()

    def close(self) -> None:
        self._engine.close()
