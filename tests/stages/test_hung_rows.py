"""What a row leaves behind that never ends keeps no other row from being written."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from s2d_ray.data.files import read_rows, write_table
from s2d_ray.data.records import Row
from s2d_ray.data.shards import Shard, remaining
from s2d_ray.recipes.sections import Engine
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.engine_actor import EngineActor
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, _answer_parts

OUTPUT = pa.schema([("prompt_id", pa.string()), ("error", pa.string())])
LATE = "no end within 0.5 s (engine.method_timeout)"
SECONDS = 20
"""That what hangs does so at most: longer than any test may take."""
METER: Any = SimpleNamespace(add=SimpleNamespace(remote=lambda sums, last: None))


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends what hangs."""
    event = threading.Event()
    yield event
    event.set()


async def hangs_in_a_thread(over: threading.Event) -> None:
    await asyncio.to_thread(over.wait, SECONDS)


async def heeds_no_cancellation(over: threading.Event) -> None:
    end = time.monotonic() + SECONDS
    while not over.is_set() and time.monotonic() < end:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue


def work(hangs: Callable[[], Any]) -> RowWork:
    async def answer(row: Row, engine: Any) -> list[Row]:
        if row["prompt_id"] == "bad":
            await hangs()
        return [row | {"error": ""}]

    return RowWork(answer, lambda row, reason: [row | {"error": reason}])


def job_of(folder: Path, hangs: Callable[[], Any], engine: Engine | None = None) -> tuple[RowJob, list[Shard]]:
    """Over a part with a row that hangs, and one without."""
    source, target = folder / "source", folder / "target"
    source.mkdir()
    write_table(source / "part-0.parquet", pa.table({"prompt_id": ["bad", "a", "b"]}))
    rows = Rows(source, target, OUTPUT, commit_rows=2)
    job = RowJob([Pass(rows, Path("none"), partial(work, hangs))], engine, False, None, method_timeout=0.5)
    return job, list(remaining(source, target, 2).parts)


def errors(folder: Path) -> dict[str, str]:
    return {row["prompt_id"]: row["error"] for row in read_rows(folder / "target")}


@pytest.mark.parametrize("hangs", [hangs_in_a_thread, heeds_no_cancellation])
def test_a_worker_goes_on_from_what_never_ends(
    hangs: Callable[[threading.Event], Any], tmp_path: Path, over: threading.Event
) -> None:
    job, parts = job_of(tmp_path, partial(hangs, over))
    begin = time.monotonic()
    for part in parts:
        assert _answer_parts(pa.Table.from_pylist([part]), job, METER)["name"].to_pylist() == [part["name"]]
    assert time.monotonic() - begin < SECONDS / 2
    assert errors(tmp_path) == {"bad": LATE, "a": "", "b": ""}


def test_rows_are_written_where_those_that_hang_have_all_threads(tmp_path: Path, over: threading.Event) -> None:
    async def make() -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        actor = EngineActor(job, METER)
        await asyncio.wait_for(asyncio.gather(*map(actor._make, parts)), SECONDS / 2)
        over.set()

    threads = ThreadPoolExecutor(1)
    job, parts = job_of(tmp_path, partial(hangs_in_a_thread, over), Engine(kind="scripted"))
    asyncio.run(make())
    assert errors(tmp_path) == {"bad": LATE, "a": "", "b": ""}
