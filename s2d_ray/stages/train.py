"""Train: Ray Train runs DeepSpeed workers over the distilled pairs and survives their loss."""

import os
import shutil
import time
from pathlib import Path

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from s2d_ray.artifacts import TRAINING_LOG, Artifact, read_json_lines
from s2d_ray.config import Recipe
from s2d_ray.curation.data_card import why_nothing_kept
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.stages.progress import Meter, shown
from s2d_ray.terminal import console
from s2d_ray.training.schedule import total_steps

STATE = "_train"
"""Checkpoints, inside the model's folder until it is finished."""


def train(recipe: Recipe, base: Model, distilled: Artifact, model: Artifact, label: str) -> None:
    """The fine-tuned model; goes on from the last checkpoint where an earlier attempt stopped.

    Where curation kept nothing there is no model, and the manifest says why as `skipped`.
    Raises UserError where training failed more often than the recipe allows.
    """
    if model.open():
        return
    if not distilled.manifest["kept"]:
        reason = why_nothing_kept(distilled.manifest)
        console.print(f"  {label}: {reason}", markup=False)
        model.finish({"skipped": reason, "seconds": 0.0})
        return
    folder, settings = model.path, recipe.train
    start = time.monotonic()
    kept = min(distilled.manifest["kept"], settings.max_examples or distilled.manifest["kept"])
    steps = total_steps(kept, settings.batch_size, settings.epochs, settings.max_steps)
    with shown(label, steps, "steps") as meter:
        examples = _fit(recipe, base, distilled, folder, meter)
    log = read_json_lines(folder / TRAINING_LOG)
    seconds = time.monotonic() - start
    tokens = sum(entry["tokens"] for entry in log)
    model.finish(
        {
            "examples": examples,
            "left_out_too_long": kept - examples,
            "steps": len(log),
            "tokens": tokens,
            "tokens_per_second": tokens / log[-1]["seconds"],
            "first_loss": log[0]["loss"],
            "last_loss": log[-1]["loss"],
            "seconds": seconds,
        }
    )
    shutil.rmtree(folder / STATE, ignore_errors=True)


def _fit(recipe: Recipe, base: Model, distilled: Artifact, folder: Path, meter: object) -> int:
    """Train to the end; the number of examples trained on."""
    settings = recipe.train
    gpu = bool(ray.cluster_resources().get("GPU"))
    cores = 1 if gpu else max(1, (os.cpu_count() or 1) // settings.workers)

    pairs = sorted((distilled.path / "status=kept").glob("*.parquet"))

    def worker() -> None:
        # DeepSpeed looks for its accelerator when it is imported.
        if not gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
        from s2d_ray.training.loop import TrainJob, train_worker

        job = TrainJob(settings, recipe.seed, base.folder, recipe.trust_remote_code, pairs, folder)
        train_worker(job, Meter(meter))

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers, use_gpu=gpu, resources_per_worker={"CPU": cores} | ({"GPU": 1} if gpu else {})
        ),
        run_config=ray.train.RunConfig(
            # The same name and storage again is how Ray Train knows that this is a continuation.
            name=STATE,
            storage_path=str(folder.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        metrics = trainer.fit().metrics or {}
        return int(metrics["examples"])
    except ray.train.TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"training failed {settings.max_failures + 1} times, last: {reason}") from error
