"""Train: Ray Train runs DeepSpeed workers over the distilled pairs and survives their loss."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
from safetensors import SafetensorError, safe_open

from s2d_ray.curation.data_card import why_nothing_kept
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import Damaged, read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from s2d_ray.data.manifests import DistilledManifest, ModelManifest
from s2d_ray.data.storage import RemotePath, filesystem, remove
from s2d_ray.errors import UserError, disk_full
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.stages.placement import require_training
from s2d_ray.stages.progress import Meter, shown
from s2d_ray.terminal import console
from s2d_ray.training.schedule import ORDER_VERSION

STATE = f"_train-{ORDER_VERSION}"
"""Checkpoints, inside the model's folder until it is finished. None is gone on from in another order of examples."""
RESIZE_SECONDS = 60.0
"""How often an elastic training looks whether there is room for more workers. Each resize costs a restart."""


class Source(NamedTuple):
    """A distilled set to train on."""

    part: str
    """The part of a mixture that it belongs to; empty where there is no other."""
    distilled: Artifact[DistilledManifest]
    max_examples: int | None
    """Examples of it at most, the first by id."""

    @property
    def examples(self) -> int:
        """Kept pairs that count, too long ones included."""
        kept = self.distilled.manifest.kept
        return kept if self.max_examples is None else min(kept, self.max_examples)

    def named(self, said: str) -> str:
        """What is said of this part."""
        return f"{self.part}: {said}" if self.part else said


def train(
    recipe: AnyRecipe,
    base: Model,
    sources: Sequence[Source],
    model: Artifact[ModelManifest],
    label: str,
    steps: int | None,
) -> None:
    """The model fine-tuned on all sources together, in one order shuffled by the seed.

    It takes exactly `steps` optimizer steps; where that is None, as many as the recipe's passes over the pairs make.
    Goes on from the last checkpoint where an earlier attempt stopped. A source of which curation kept nothing is left
    out; where that is all of them there is no model, and the manifest says why as `skipped`.
    Raises UserError where training failed more often than the recipe allows.
    """
    if model.open():
        return
    empty = [source.named(why_nothing_kept(source.distilled.manifest)) for source in sources if not source.examples]
    for reason in empty:
        console.print(f"  {label}: {reason}", markup=False)
    if len(empty) == len(sources):
        model.finish(ModelManifest(skipped=" ".join(empty), seconds=0.0))
        return
    folder = model.path
    _discard_other_orders(folder, label)
    _discard_cut_off(folder / STATE, label)
    start = time.monotonic()
    kept = sum(source.examples for source in sources)
    with shown(label, steps, "steps") as meter:
        examples = _fit(recipe, base, sources, folder, steps, meter)
    log = read_json_lines(folder / TRAINING_LOG)
    seconds = time.monotonic() - start
    tokens, padding = (sum(entry[name] for entry in log) for name in ("tokens", "padding"))
    model.finish(
        ModelManifest(
            examples=examples,
            left_out_too_long=kept - examples,
            steps=log[-1]["step"],
            tokens=tokens,
            tokens_per_second=tokens / log[-1]["seconds"],
            padded_share=padding / (tokens + padding),
            steps_by_workers=dict(Counter(str(entry["workers"]) for entry in log)),
            first_loss=log[0]["loss"],
            last_loss=log[-1]["loss"],
            seconds=seconds,
        )
    )
    remove(folder / STATE)


def _discard_other_orders(folder: Path, label: str) -> None:
    for other in folder.glob("_train*"):
        if other.name != STATE:
            console.print(f"  {label}: begins anew, its examples came in the order of another version", markup=False)
            remove(other)


def _discard_cut_off(state: Path, label: str) -> None:
    """Ray Train writes checkpoints as other files are: of the last one, a loss of power may leave a part."""
    if not state.exists() or isinstance(state, RemotePath) or _can_be_gone_on_from(state):
        return
    console.print(f"  {label}: begins anew, its last checkpoint was cut off half way", markup=False)
    remove(state)


def _can_be_gone_on_from(state: Path) -> bool:
    """Whether Ray Train's record of checkpoints, and the last one of them, can be read."""
    record = state / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
    if not record.exists():
        return True
    try:
        last = read_json(record)["latest_checkpoint_result"]
        if last is None:
            return True
        checkpoint = state / last["checkpoint_dir_name"]
        for file in checkpoint.glob("*.safetensors"):
            safe_open(file, framework="np")
        return bool([read_json(file) for file in checkpoint.glob("*.json")])
    except (Damaged, SafetensorError, LookupError, TypeError):  # The last two of a record that holds something else.
        return False


def _fit(
    recipe: AnyRecipe, base: Model, sources: Sequence[Source], folder: Path, steps: int | None, meter: object
) -> int:
    """Train to the end; the number of examples trained on."""
    # A checkpoint waits until the controller looks for it: every 2 s by default, longer than some take to write.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    # How soon workers are told that a node is to go: 5 s by default, of the 30 that some clouds give.
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    settings = recipe.train
    cores = max(1, _cores_of_a_node() // settings.max_workers)
    gpu = require_training(settings, cores) == "gpu"
    # Torch's build for CPUs cannot use them.
    cuda = gpu and torch.backends.cuda.is_built()
    if gpu and not cuda:
        console.print("  workers hold GPUs but compute on CPUs: the installed build of torch is the one for CPUs")

    kept = [(s.distilled.path / "status=kept", s.max_examples) for s in sources if s.examples]
    system, path = filesystem(folder)

    def worker() -> None:
        # DeepSpeed looks for its accelerator when it is imported.
        if not cuda:
            os.environ["DS_ACCELERATOR"] = "cpu"
        from s2d_ray.training.job import Pairs, TrainJob
        from s2d_ray.training.loop import train_worker

        pairs = [Pairs(sorted(local_copy(part).glob("*.parquet")), most) for part, most in kept]
        job = TrainJob(
            settings,
            recipe.seed,
            local_copy(base.folder),
            recipe.trust_remote_code,
            pairs,
            folder,
            steps,
            recipe.chat,
        )
        train_worker(job, Meter(meter))

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        # Ray's annotations still are those of its older trainer.
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]
            num_workers=settings.workers,  # type: ignore[arg-type]
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            use_gpu=gpu,
            resources_per_worker=settings.bundles("gpu" if gpu else "cpu", cores)[0],
        ),
        run_config=ray.train.RunConfig(
            # The same name and storage again is how Ray Train knows that this is a continuation.
            name=STATE,
            storage_path=path,
            storage_filesystem=system,
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=settings.keep_checkpoints),
        ),
    )
    try:
        metrics = trainer.fit().metrics or {}
        return int(metrics["examples"])
    except ray.train.TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        said = disk_full(error) or f"training failed {settings.max_failures + 1} times, last: {reason}"
        raise UserError(said) from error


def _cores_of_a_node() -> int:
    """That training workers on the largest node may use; a local Ray counts more slots than there are cores."""
    largest: float = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
    return min(int(largest), os.cpu_count() or 1)
