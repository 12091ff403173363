"""Joining Ray: the cluster that the environment names, or a local one that ends with this process."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import ray

from s2d_ray.recipes.sections import Engine
from s2d_ray.stages.placement import actor_options, require_engine

T = TypeVar("T")

# Engine threads are bound to cores by the engine itself, and the read, write and filter tasks beside it
# are nearly idle: without spare slots they would wait for the engine to end, which waits for them.
SPARE_SLOTS = 4
OBJECT_STORE_BYTES = 512 * 2**20
SECONDS_BETWEEN_COUNTS = 5.0


@contextmanager
def joined(log_dir: Path) -> Iterator[None]:
    """Connected to Ray while the block runs.

    Inside a job, or with RAY_ADDRESS set, that cluster is joined; otherwise a local one is started, whose
    logs lie in Ray's session folder, linked from `log_dir`.
    """
    if ray.is_initialized():
        _quiet()
        yield
        return
    own = _options()
    with _on_loopback() if own else nullcontext():
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR, namespace="s2d")
    try:
        _quiet()
        _link_logs(log_dir)
        yield
    finally:
        ray.shutdown()


def on_an_engines_machine(task: Callable[[], T], engine: Engine, log_dir: Path) -> T:
    """What a function gives on a machine of the cluster that has room for an engine."""
    with joined(log_dir):
        [first, *_] = engine.bundles(require_engine(engine))
        answer: T = ray.get(ray.remote(**actor_options(first))(task).remote())
        return answer


@contextmanager
def gpus_counted(tell: Callable[[float], None]) -> Iterator[None]:
    """While the block runs `tell` is told every few seconds how many GPUs the cluster has given out."""
    over = threading.Event()

    def count() -> None:
        while not over.wait(SECONDS_BETWEEN_COUNTS):
            there = ray.cluster_resources().get("GPU", 0.0)
            tell(there - ray.available_resources().get("GPU", 0.0) if there else 0.0)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started in the block listens there alone: no other machine joins, as on Windows and macOS."""
    constants = ray._private.ray_constants
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _options() -> dict[str, Any]:
    """Of a local Ray; none where a cluster is joined."""
    if os.environ.get("RAY_ADDRESS"):
        return {}
    # An engine actor that is killed must take its engine process with it. Not for a head that takes jobs: with
    # this every job would seem to end with exit code 0.
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper", "1")
    return {
        "address": "local",
        "num_cpus": (os.cpu_count() or 1) + SPARE_SLOTS,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }


def _quiet() -> None:
    """Ray Data's own chatter goes to its log files; the stages print what a person needs."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _link_logs(log_dir: Path) -> None:
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())  # type: ignore[union-attr]
    log_dir.mkdir(parents=True, exist_ok=True)
    link = log_dir / "ray"
    link.unlink(missing_ok=True)
    link.symlink_to(session / "logs")
