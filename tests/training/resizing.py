"""Trainings that change their number of workers half-way, and export, in plain processes instead of on Ray."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s2d_ray.data.files import write_json

HALFWAY, STEPS = 3, 6
EXPORT_BYTES = 2**17


class Case(NamedTuple):
    """Training settings by a name."""

    name: str
    train: dict[str, Any]
    chunk: int = 2**25
    """Logits at most that are held in float32 at a time."""


def resized(cases: Sequence[Case], sizes: Sequence[int], model: Path, pairs: Path, output: Path) -> None:
    """Train every case on each number of workers without a break, and on each from the half-way of each other.

    `output/<case>/<first>-<then>/` has its steps as `log.json`, and the checkpoints `half` and `end`; where the number
    did not change also the exported `model`, in files of `EXPORT_BYTES`; where it did, the bytes that worker n read of
    the checkpoint as `read-<n>.json`.
    """
    # All workers are forks of one process that has imported what they need, which takes longer than they do.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["s2d_ray.training.trainer"])
    halves_saved = server.Barrier(sum(sizes))
    processes = [
        server.Process(target=_worker, args=(rank, size, sizes, cases, model, pairs, output, halves_saved), daemon=True)
        for size in sizes
        for rank in range(size)
    ]
    with pytest.MonkeyPatch.context() as environment:
        # Read when DeepSpeed and torch are imported.
        environment.setenv("DS_ACCELERATOR", "cpu")
        environment.setenv("OMP_NUM_THREADS", "1")
        for process in processes:
            process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def _worker(
    rank: int,
    size: int,
    sizes: Sequence[int],
    cases: Sequence[Case],
    model: Path,
    pairs: Path,
    output: Path,
    halves_saved: Barrier,
) -> None:
    os.environ["LOCAL_RANK"] = "0"
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{output}/rendezvous-{size}", rank=rank, world_size=size
    )
    try:
        for case in cases:
            _train(case, model, pairs, None, output / case.name / f"{size}-{size}")
        halves_saved.wait(timeout=600)
        for case in cases:
            for first in sizes:
                if first != size:
                    half = output / case.name / f"{first}-{first}" / "half"
                    _train(case, model, pairs, half, output / case.name / f"{first}-{size}")
    except BaseException:
        halves_saved.abort()
        raise


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """The bytes of each tensor that is read of a checkpoint in the block."""
    from s2d_ray.training.checkpoint import Stored

    sizes: list[int] = []
    read = Stored.read

    def counted(stored: Stored) -> Any:
        sizes.append(stored.size)
        return read(stored)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stored, "read", counted)
        yield sizes


def _train(case: Case, model: Path, pairs: Path, half: Path | None, output: Path) -> None:
    """From the start, saving at the half; or from the checkpoint `half` on."""
    import torch
    from deepspeed.accelerator import get_accelerator

    from s2d_ray.rendering.renderer import Renderer
    from s2d_ray.training import schedule
    from s2d_ray.training.export import Export
    from s2d_ray.training.job import Pairs, TrainJob, load_pairs
    from s2d_ray.training.trainer import Trainer
    from tests.training.trial import recipe

    if case.train["dtype"] == "float16":
        # Few CPUs are fast at it, which is all that DeepSpeed asks; torch computes in it on every one.
        get_accelerator().is_fp16_supported = lambda: True
    schedule.LOSS_LOGITS = case.chunk
    job = TrainJob(recipe(model, **case.train).train, 0, model, False, [Pairs([pairs], None)], output)
    renderer = Renderer.load(model, False)
    trainer = Trainer(job, load_pairs(job, renderer), STEPS)
    (output / "half").mkdir(parents=True, exist_ok=True)
    (output / "end").mkdir(exist_ok=True)
    done = 0
    if half is not None:
        with counted_reads() as read:
            done = trainer.restore(half)
        write_json(output / f"read-{torch.distributed.get_rank()}.json", read)
    log = []
    for number in range(done, STEPS):
        if number == HALFWAY and half is None:
            trainer.save(output / "half", number)
        log.append(trainer.step(number)._asdict())
    trainer.save(output / "end", STEPS)
    if half is None:
        Export(job, trainer.engine.module, renderer).write(output / "model", EXPORT_BYTES)
    if torch.distributed.get_rank() == 0:
        write_json(output / "log.json", log)
    torch.distributed.barrier()
