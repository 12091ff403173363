"""A Ray that counts GPUs which are not there, and who holds them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ray

from s2d_ray.stages.cluster import OBJECT_STORE_BYTES, SPARE_SLOTS, joined

GPUS = 4


@contextmanager
def counted_gpus(logs: Path) -> Iterator[None]:
    """A local Ray that believes in four GPUs, while the block runs."""
    cpus = (os.cpu_count() or 1) + SPARE_SLOTS
    ray.init(
        "local",
        num_cpus=cpus,
        num_gpus=GPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        with joined(logs):
            yield
    finally:
        ray.shutdown()


@dataclass
class Held:
    """GPUs that Ray had given out, as often as looked."""

    seen: set[float] = field(default_factory=set)


@contextmanager
def watching() -> Iterator[Held]:
    """Who looks meanwhile."""
    held, over = Held(), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            held.seen.add(GPUS - ray.available_resources().get("GPU", 0.0))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def all_gpus_free(seconds: float = 60) -> bool:
    """Whether they are, at once or soon."""
    deadline = time.monotonic() + seconds
    while ray.available_resources().get("GPU") != GPUS:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
