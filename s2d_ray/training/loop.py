"""What every training worker runs: the distilled pairs, the steps, checkpoints, and the export at the end.

Ray Train starts it on each worker, and again from the last checkpoint, on as many workers as there then are, when a
worker is lost or one can be added.
"""

import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import ray.train
import torch

from s2d_ray.data.files import read_json_lines, write_text
from s2d_ray.data.folders import TRAINING_LOG
from s2d_ray.data.storage import RemotePath, upload
from s2d_ray.recipes.sections import Train
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.export import Export
from s2d_ray.training.job import TrainJob, load_pairs
from s2d_ray.training.preemption import Preemptions
from s2d_ray.training.schedule import total_steps
from s2d_ray.training.trainer import StepFigures, Trainer


class TrainingMeter(Protocol):
    """Where progress is reported to."""

    def add(self, **sums: float) -> None: ...

    def show(self, **last: float) -> None: ...

    def restart(self, **sums: float) -> None: ...

    def flush(self) -> None: ...


def train_worker(job: TrainJob, meter: TrainingMeter) -> None:
    """Train to the end and export; all workers call this together."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(job.seed)
    renderer = Renderer.load(job.model, job.trust_remote_code, job.chat)
    pairs = load_pairs(job, renderer)
    settings = job.train
    # Of the pairs that are trained on: how many are too long is not known before they are encoded.
    steps = job.steps or total_steps(len(pairs), settings.batch_size, settings.epochs)
    trainer = Trainer(job, pairs, steps)
    export = Export(job, trainer.engine.module, renderer)
    done = _resume(trainer, job.output)
    due, preemptions = _Due(settings, trainer.engine.device), Preemptions()
    log = _Log(job.output, meter, rank, world, done, steps)
    for number in range(done, steps):
        log.write(number + 1, trainer.step(number))
        if preemptions.told_of_another() or due.after(number + 1) or number + 1 == steps:
            _await_last_checkpoint()
            log.save()
            _checkpoint(trainer, number + 1, len(pairs), job.output)
    export.write(job.output)
    log.close()


class _Due:
    """When checkpoints are made."""

    def __init__(self, settings: Train, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self._last = time.monotonic()

    def after(self, done: int) -> bool:
        """Whether one is due after so many steps; all workers ask together, and are told the same."""
        if self._settings.checkpoint_minutes is None:
            return done % self._settings.checkpoint_steps == 0
        passed = torch.tensor(time.monotonic() - self._last, device=self._device)
        torch.distributed.broadcast(passed, 0)
        due = passed.item() >= 60 * self._settings.checkpoint_minutes
        if due:
            self._last = time.monotonic()
        return due


def _await_last_checkpoint() -> None:
    """Until the one before, if any, is one to go on from: so the disk holds no more than one that is on its way."""
    ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)


def _checkpoint(trainer: Trainer, done: int, examples: int, output: Path) -> None:
    """Every worker's part, merged by Ray Train into one checkpoint in storage while the next steps run."""
    folder = tempfile.mkdtemp()
    trainer.save(Path(folder), done)
    ray.train.report(
        {"step": done, "examples": examples},
        checkpoint=ray.train.Checkpoint.from_directory(folder),
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
        checkpoint_upload_fn=_uploads_to(output) if isinstance(output, RemotePath) else None,
    )


def _uploads_to(output: RemotePath) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint]:
    """How a checkpoint gets to object storage: Ray Train's own way fails where that is away for a minute."""
    storage = ray.train.get_context().get_storage()

    def copied(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        upload(Path(checkpoint.path), output / Path(storage.experiment_fs_path).name / name)
        return ray.train.Checkpoint(f"{storage.experiment_fs_path}/{name}", storage.storage_filesystem)

    return copied


def _resume(trainer: Trainer, output: Path) -> int:
    """Go on from the last checkpoint, if there is one; the steps it has behind it."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    # Not Ray's way to read it, which gives every worker all of it.
    return trainer.restore(output.joinpath(*Path(checkpoint.path).parts[-2:]))


class _Log:
    """The training log, one JSON object per step, written by rank 0; and the progress shown."""

    def __init__(self, output: Path, meter: TrainingMeter, rank: int, world: int, done: int, steps: int) -> None:
        self._meter, self._world = meter, world
        self._file: TextIO | None = None
        if rank != 0:
            return
        self._path = output / TRAINING_LOG
        kept: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            # Steps after the checkpoint are about to be done again.
            kept = [entry for entry in read_json_lines(self._path) if entry["step"] <= done]
        self._start = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)
        before = "".join(json.dumps(entry) + "\n" for entry in kept)
        write_text(self._path, before)
        self._file = io.StringIO(before) if isinstance(self._path, RemotePath) else self._path.open("a")
        self._file.seek(0, os.SEEK_END)
        self._meter.add(ready=1)
        self._meter.restart(steps=done, total=steps)

    def write(self, number: int, step: StepFigures) -> None:
        if self._file is None:
            return
        seconds = time.monotonic() - self._start
        entry = {"step": number, **step._asdict(), "workers": self._world, "seconds": seconds}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._meter.add(steps=1, tokens=step.tokens)
        self._meter.show(loss=step.loss)

    def save(self) -> None:
        """Before a checkpoint: from now on no crash loses the steps behind it."""
        if isinstance(self._file, io.StringIO):
            # Object storage has no appending: the whole log is written anew.
            write_text(self._path, self._file.getvalue())
        elif self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._meter.flush()
