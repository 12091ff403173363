"""What `/ab` costs when an experiment is old: time and memory of a view, and of counting its store for the first time.

    python jobs/bench_page.py [--ratings 2000000] [--days 7] [--folder FOLDER]

It writes a store as one gateway leaves it, a part of requests and one of feedback for every five minutes, every answer
rated. Then one process counts it from nothing and makes few parts of many; another one, as after a kill, goes on from
what that has kept, and is viewed again and again while events come in.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.arms import CORE_ARMS
from s2d_ray.data.files import part_files
from s2d_ray.data.folders import RunFolders
from s2d_ray.experiment import controller
from s2d_ray.experiment.assignment import CELLS
from s2d_ray.experiment.controller import Controller, events_folder
from s2d_ray.experiment.events import FEEDBACK, REQUESTS, FeedbackEvent, RequestEvent
from s2d_ray.experiment.store import EventStore
from s2d_ray.recipes.load import load_single_recipe

MIB = 2**20
FLUSH_SECONDS = 300
VIEWS, BETWEEN = 50, 100
"""Views of the page, and requests with their feedback that come in before each."""


def write_store(folder: Path, ratings: int, days: float) -> None:
    """Requests of 20,000 users and their feedback, a part of each for every flush."""
    random = np.random.default_rng(0)
    flushes = round(days * 86_400 / FLUSH_SECONDS)
    cells = random.integers(0, CELLS, 20_000).astype(np.int16)
    start = time.time() - days * 86_400
    for kind in ("requests", "feedback"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for flush in range(flushes):
        first, last = (ratings * at // flushes for at in (flush, flush + 1))
        names = [f"chatcmpl-{number:048d}" for number in range(first, last)]
        size = last - first
        times = (1e6 * (start + FLUSH_SECONDS * (flush + random.random(size)))).astype(np.int64)
        cell, arm = cells[random.integers(0, len(cells), size)], np.array(CORE_ARMS)[random.integers(1, 3, size)]
        common = {"request_id": names, "time": times, "arm": arm, "version": np.ones(size, np.int32), "rater": cell}
        requests = common | {
            "cluster": cell,
            "outcome": ["answered"] * size,
            "seconds": random.lognormal(0, 1, size),
            "error": [""] * size,
            "completion_tokens": random.poisson(20, size),
            "cost": random.random(size),
            "escalated": np.zeros(size, bool),
        }
        _write(folder / "requests" / f"{flush:032d}.parquet", requests, REQUESTS)
        _write(folder / "feedback" / f"{flush:032d}.parquet", common | {"score": random.integers(0, 2, size)}, FEEDBACK)


def _write(path: Path, columns: dict[str, object], schema: pa.Schema) -> None:
    rows = len(columns["request_id"])  # type: ignore[arg-type]
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def opened(folder: Path) -> Controller:
    """The experiment, as a server has it."""
    return Controller(load_single_recipe("s2a-geonames"), RunFolders(folder))


def memory() -> dict[str, float]:
    """Of this process, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"memory_mib": psutil.Process().memory_info().rss / MIB, "most_memory_mib": most / MIB}


def count(folder: Path) -> dict[str, float]:
    """From nothing: what the first server of this version does with an old store."""
    experiment = opened(folder)
    start = time.monotonic()
    controller.KEEP_SECONDS = 0.0
    experiment.tend()
    seconds = time.monotonic() - start
    parts = len(part_files(events_folder(RunFolders(folder))))
    return {"count_and_merge_seconds": seconds, "parts_left": parts, **memory()}


def view(folder: Path) -> dict[str, float]:
    """After a restart: the first view, and those after it, while events come in."""
    store = EventStore(events_folder(RunFolders(folder)))
    experiment, random = opened(folder), np.random.default_rng(1)
    start = time.monotonic()
    experiment.page("nonce")
    first, before, seconds, computed = time.monotonic() - start, memory()["memory_mib"], [], []
    for number in range(VIEWS):
        for event in range(BETWEEN):
            cell, now, name = int(random.integers(0, CELLS)), datetime.now(UTC).timestamp(), f"new-{number}-{event}"
            store.add(RequestEvent(name, now, "student", 1, cell, "answered", 0.5, rater=cell))
            store.add(FeedbackEvent(name, now, 1.0, "student", 1, cell))
        start, start_of_cpu = time.monotonic(), time.process_time()
        experiment.page("nonce")
        seconds.append(time.monotonic() - start)
        computed.append(time.process_time() - start_of_cpu)
    store.close()
    views = {"median_ms": median(seconds), "longest_ms": max(seconds), "median_of_cpu_ms": median(computed)}
    in_ms = {name: 1000 * value for name, value in views.items()}
    return {"first_view_seconds": first, **in_ms, "before_mib": before, **memory()}


def main() -> None:
    """Each step in a process of its own, so that its memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ratings", type=int, default=2_000_000)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=("count", "view"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step = {"count": count, "view": view}[arguments.step]
        print(json.dumps({name: round(value, 3) for name, value in step(arguments.folder).items()}))
        return
    with TemporaryDirectory(dir=arguments.folder) as folder:
        opened(Path(folder))
        write_store(events_folder(RunFolders(Path(folder))), arguments.ratings, arguments.days)
        print(f"{arguments.ratings} ratings in {len(part_files(events_folder(RunFolders(Path(folder)))))} parts")
        for name in ("count", "view"):
            print(name, end=": ", flush=True)
            subprocess.run([sys.executable, __file__, "--step", name, "--folder", folder], check=True, env=os.environ)


if __name__ == "__main__":
    main()
