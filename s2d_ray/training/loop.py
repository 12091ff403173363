"""What every training worker runs: the distilled pairs, DeepSpeed, checkpoints, and the export at the end.

Ray Train starts it on each worker, and again from the last checkpoint when a worker is lost.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import deepspeed
import ray.train
import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup
from transformers.integrations import HfDeepSpeedConfig

from s2d_ray.artifacts import TRAINING_LOG
from s2d_ray.config import Train
from s2d_ray.records import content_id
from s2d_ray.training.deepspeed import deepspeed_config
from s2d_ray.training.encoding import Encoded, encode, pack
from s2d_ray.training.export import adapted, export
from s2d_ray.training.schedule import batches, total_steps


class Pairs(NamedTuple):
    """A distilled set, as Parquet files with `prompt_id` and `messages`, the last turn of which is the target."""

    files: Sequence[Path]
    max_examples: int | None
    """Examples of it at most, the first by id."""


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know. Pickled to every worker."""

    train: Train
    seed: int
    model: Path
    trust_remote_code: bool
    pairs: Sequence[Pairs]
    """Ids are unique within each of them, not over them all."""
    output: Path


class Meter(Protocol):
    """Where progress is reported to."""

    def add(self, **sums: float) -> None: ...

    def show(self, **last: float) -> None: ...

    def flush(self) -> None: ...


def train_worker(job: TrainJob, meter: Meter) -> None:
    """Train to the end and export; all workers call this together."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(job.seed)
    tokenizer = AutoTokenizer.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
    pairs = load_pairs(job, tokenizer)
    settings = job.train
    steps = total_steps(len(pairs), settings.batch_size, settings.epochs, settings.max_steps)
    lengths: list[int] = pairs["length"][:]
    plan = batches(len(pairs), settings.batch_size, steps, job.seed)
    engine = start_deepspeed(job, steps)
    done = _resume(engine)
    log = _Log(job.output, meter, rank, done)
    for step in range(done, steps):
        mine = [_example(pairs, i) for i in plan[step][rank::world]]
        loss = _step(engine, mine, settings, sum(pairs[i]["target_length"] for i in plan[step]))
        log.write(step + 1, loss, engine, sum(lengths[i] for i in plan[step]))
        last = step + 1 == steps
        if last or (step + 1) % settings.checkpoint_steps == 0:
            _checkpoint(engine, step + 1, len(pairs))
    export(engine, job.model, tokenizer, settings, job.output, rank)
    log.close()


def load_pairs(job: TrainJob, tokenizer: Any) -> Dataset:
    """The encoded pairs, set after set, each in order of its ids; memory-mapped.

    Those longer than `max_length` are left out.
    """
    encoded = concatenate_datasets([_encoded(pairs, job.model, tokenizer) for pairs in job.pairs])
    most = job.train.max_length
    fitting = encoded.filter(lambda length: length <= most, input_columns="length")
    if not len(fitting):
        raise ValueError(f"every one of {len(encoded)} examples is longer than train.max_length {most}")
    return fitting


def _encoded(pairs: Pairs, model: Path, tokenizer: Any) -> Dataset:
    found = load_dataset("parquet", data_files=[str(path) for path in pairs.files], split="train")
    # Part files and their rows come in any order; ids do not.
    found = found.select_columns(["prompt_id", "messages"]).sort("prompt_id")
    if pairs.max_examples is not None:
        found = found.select(range(min(pairs.max_examples, len(found))))

    def to_tokens(row: dict[str, Any]) -> dict[str, Any]:
        example = encode(row["messages"], tokenizer)
        return {
            "prompt": example.prompt,
            "target": example.target,
            "length": len(example),
            "target_length": len(example.target),
        }

    # Named here, since `datasets` would otherwise pickle the tokenizer to name the cached result.
    name = content_id(str(model), *map(str, pairs.files), str(pairs.max_examples))
    return found.map(to_tokens, remove_columns=["messages"], new_fingerprint=name)


def _example(pairs: Dataset, index: int) -> Encoded:
    row = pairs[index]
    return Encoded(row["prompt"], row["target"])


def start_deepspeed(job: TrainJob, steps: int) -> Any:
    """The model under DeepSpeed ZeRO with AdamW and a linear schedule, on the process group of Ray Train."""
    settings = job.train
    config = deepspeed_config(settings)
    # Gloo does on CPU what this optional op does, without compiling C++ when a worker starts.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Takes over Ray Train's process group; sharding while loading asks it for the number of workers.
    deepspeed.init_distributed(torch.distributed.get_backend())
    # Kept alive while the model is built: under ZeRO-3 it makes transformers shard the weights as they load.
    sharding = HfDeepSpeedConfig(config) if settings.zero_stage == 3 else None
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype, trust_remote_code=job.trust_remote_code)
    model = adapted(model, settings.lora, job.seed)
    del sharding
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, round(settings.warmup_share * steps), steps + 1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=schedule, config=config)
    return engine


def _step(engine: Any, mine: Sequence[Encoded], settings: Train, targets: int) -> float:
    """One optimizer step over this worker's share of the batch; the mean loss per target token of all workers.

    Every target token of the whole batch weighs the same, whatever the number of workers and micro-batches.
    """
    world = torch.distributed.get_world_size()
    micro = min(settings.micro_batch_size, len(mine))
    accumulated = len(mine) // micro
    total = torch.zeros(1, device=engine.device)
    for start in range(0, len(mine), micro):
        row = pack(mine[start : start + micro])
        places = torch.tensor(row.predicting, device=engine.device)
        logits = engine(
            input_ids=torch.tensor([row.input_ids], device=engine.device),
            position_ids=torch.tensor([row.position_ids], device=engine.device),
            logits_to_keep=places,
            use_cache=False,
        ).logits
        wanted = torch.tensor(row.targets, device=engine.device)
        loss = cross_entropy(logits[0].float(), wanted, reduction="sum") / targets
        # DeepSpeed averages over workers and micro-batches; the loss is a sum over both.
        engine.backward(loss * world * accumulated)
        engine.step()
        total += loss.detach()
    torch.distributed.all_reduce(total)
    return float(total.item())


def _checkpoint(engine: Any, step: int, examples: int) -> None:
    """Every worker's shard, merged by Ray Train into one checkpoint in storage."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state", client_state={"step": step}, exclude_frozen_parameters=True)
        ray.train.report({"step": step, "examples": examples}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _resume(engine: Any) -> int:
    """Load the last checkpoint, if there is one; the steps it has behind it."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        _, state = engine.load_checkpoint(folder, tag="state", load_module_strict=False)
    return int(state["step"])


class _Log:
    """The training log, one JSON object per step, written by rank 0; and the progress shown."""

    def __init__(self, output: Path, meter: Meter, rank: int, done: int) -> None:
        self._meter, self._start = meter, time.monotonic()
        self._file: TextIO | None = None
        if rank != 0:
            return
        path = output / TRAINING_LOG
        kept: list[str] = []
        with suppress(FileNotFoundError):
            # Steps after the checkpoint are about to be done again.
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= done]
        self._file = path.open("w")
        self._file.writelines(f"{line}\n" for line in kept)
        self._meter.add(ready=1, steps=done)
        self._meter.flush()

    def write(self, step: int, loss: float, engine: Any, tokens: int) -> None:
        if self._file is None:
            return
        entry = {
            "step": step,
            "loss": loss,
            "learning_rate": engine.get_lr()[0],
            "tokens": tokens,
            "seconds": time.monotonic() - self._start,
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._meter.add(steps=1, tokens=tokens)
        self._meter.show(loss=loss)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._meter.flush()
