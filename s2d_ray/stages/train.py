"""Train: Ray Train runs DeepSpeed workers over the distilled pairs and survives their loss."""

import os
import shutil
import time
from pathlib import Path

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from s2d_ray.artifacts import TRAINING_LOG, Artifact, fingerprint, read_json_lines
from s2d_ray.config import Recipe
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.stages.progress import Meter, shown
from s2d_ray.training.schedule import total_steps

STATE = "_train"
"""Checkpoints, inside the model's folder until it is finished."""
PLACEMENT = {"workers", "micro_batch_size", "checkpoint_steps", "max_failures"}


def train(
    recipe: Recipe, model: Model, distilled: Artifact, folder: Path, label: str, overwrite: bool = False
) -> Artifact:
    """The fine-tuned model; goes on from the last checkpoint where an earlier attempt stopped.

    Raises UserError where training failed more often than the recipe allows.
    """
    settings = recipe.train
    inputs = {
        "model": {"name": recipe.model, "identity": model.identity},
        "distilled": fingerprint(distilled.manifest["inputs"]),
        "train": settings.model_dump(mode="json", exclude=PLACEMENT),
        "seed": recipe.seed,
    }
    artifact = Artifact(folder, inputs)
    if artifact.open(overwrite):
        return artifact
    start = time.monotonic()
    kept = min(distilled.manifest["kept"], settings.max_examples or distilled.manifest["kept"])
    steps = total_steps(kept, settings.batch_size, settings.epochs)
    with shown(label, steps, "steps") as meter:
        _fit(recipe, model, distilled, folder, meter)
    log = read_json_lines(folder / TRAINING_LOG)
    seconds = time.monotonic() - start
    tokens = sum(entry["tokens"] for entry in log)
    artifact.finish(
        {
            "examples": kept,
            "steps": len(log),
            "tokens": tokens,
            "tokens_per_second": tokens / log[-1]["seconds"],
            "first_loss": log[0]["loss"],
            "last_loss": log[-1]["loss"],
            "seconds": seconds,
        }
    )
    shutil.rmtree(folder / STATE, ignore_errors=True)
    return artifact


def _fit(recipe: Recipe, model: Model, distilled: Artifact, folder: Path, meter: object) -> None:
    settings = recipe.train
    gpu = bool(ray.cluster_resources().get("GPU"))
    cores = 1 if gpu else max(1, (os.cpu_count() or 1) // settings.workers)

    pairs = sorted((distilled.path / "status=kept").glob("*.parquet"))

    def worker() -> None:
        # DeepSpeed looks for its accelerator when it is imported.
        if not gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
        from s2d_ray.training.loop import TrainJob, train_worker

        job = TrainJob(settings, recipe.seed, model.folder, recipe.trust_remote_code, pairs, folder)
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
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"training failed {settings.max_failures + 1} times, last: {reason}") from error
