"""The model under DeepSpeed ZeRO, one optimizer step at a time, on however many workers there are."""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
from datasets import Dataset
from transformers.integrations import HfDeepSpeedConfig

from s2d_ray.training import checkpoint
from s2d_ray.training.deepspeed import deepspeed_config
from s2d_ray.training.encoding import pack
from s2d_ray.training.job import TrainJob, without
from s2d_ray.training.loss import TargetLoss
from s2d_ray.training.model import load_model
from s2d_ray.training.optimizer import float_moments, make_adam
from s2d_ray.training.schedule import Removal, batches, filled_micro_batches, micro_batches, rate_share


class StepFigures(NamedTuple):
    """What one optimizer step came to, over all workers."""

    loss: float
    """Of the batch before the step: per example the mean over its target tokens, and of these the mean."""
    learning_rate: float
    tokens: int
    """Of the batch's examples, prompt and target, without what is taken away of a trace."""
    padding: int
    """Tokens computed beside those."""


class Trainer:
    """One worker's part in the training. All workers call the same methods together.

    A step depends on its number and the seed, not on the number of workers, except for rounding and for dropout.
    """

    def __init__(self, job: TrainJob, pairs: Dataset, steps: int) -> None:
        self._settings, self._seed, self._steps, self._pairs = job.train, job.seed, steps, pairs
        self._lengths = array("q", pairs["length"][:])
        self._traces, self._removal = _removal_of(job, pairs, steps)
        self._batches = batches(len(pairs), job.train.batch_size, steps, job.seed)
        self.engine, self._adam = _start(job)
        self._loss = TargetLoss(self.engine.module)
        self._rank, self._workers = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def step(self, number: int) -> StepFigures:
        """The optimizer step of this number, counted from 0."""
        settings = self._settings
        return self._step(number, settings.learning_rate * self._share(number))

    def save(self, folder: Path, done: int) -> None:
        """This worker's part of a checkpoint after `done` steps."""
        with float_moments(self.engine, self._adam):
            checkpoint.save(self.engine, self._adam, folder, done)

    def restore(self, folder: Path) -> int:
        """Go on from a checkpoint, made by any number of workers; the steps that it has behind it."""
        # A step makes Adam's moments and shows DeepSpeed where they are; all that it changes is then overwritten.
        self._step(0, learning_rate=0.0)
        with float_moments(self.engine, self._adam, changed=True):
            return checkpoint.load(self.engine, self._adam, folder)

    def _share(self, number: int) -> float:
        return rate_share(self._settings.schedule, number, self._steps, self._settings.warmup_share)

    def _step(self, number: int, learning_rate: float) -> StepFigures:
        step = self._try_step(number, learning_rate)
        # In float16 gradients may overflow: DeepSpeed then leaves the weights as they were and scales the loss by less.
        while self._settings.dtype == "float16" and not self.engine.was_step_applied():
            step = self._try_step(number, learning_rate)
        return step

    def _try_step(self, number: int, learning_rate: float) -> StepFigures:
        batch = self._batches[number]
        lost = {index: self._lost(number, index) for index in batch}
        lengths = {index: self._lengths[index] - lost[index] for index in batch}
        mine = self._micro_batches(batch, lengths)
        # Dropout is then the same after a resume.
        torch.manual_seed(hash((self._seed, number, self._rank)) % 2**63)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        # The sum of the loss, and the tokens computed.
        totals = torch.zeros(2, dtype=torch.float64, device=self.engine.device)
        for number_in_step, indices in enumerate(mine, 1):
            self.engine.set_gradient_accumulation_boundary(number_in_step == len(mine))
            # DeepSpeed waits for every worker in each micro-batch: one without examples takes part all the same.
            examples = indices or [min(batch, key=lengths.__getitem__)]
            row = pack([without(self._pairs[i], lost[i]) for i in examples])
            share = self._loss(self.engine, row) / len(batch) * bool(indices)
            # DeepSpeed averages over workers; the loss is a sum over them.
            self.engine.backward(share * self._workers, scale_wrt_gas=False)
            totals[0] += share.detach()
            totals[1] += len(row.input_ids)
        self.engine.step()
        torch.distributed.all_reduce(totals)
        tokens = sum(lengths[i] for i in batch)
        loss, computed = totals.tolist()
        return StepFigures(loss, learning_rate, tokens, int(computed) - tokens)

    def _micro_batches(self, batch: Sequence[int], lengths: Mapping[int, int]) -> list[list[int]]:
        """Those of this worker."""
        settings = self._settings
        if settings.micro_batch_tokens is None:
            return micro_batches(batch, self._workers, settings.micro_batch_size)[self._rank]
        return filled_micro_batches(batch, lengths, self._workers, settings.micro_batch_tokens)[self._rank]

    def _lost(self, number: int, index: int) -> int:
        """Tokens that the step takes away of an example's trace."""
        return min(self._removal.lost(number, index), self._traces[index]) if self._removal else 0


def _removal_of(job: TrainJob, pairs: Dataset, steps: int) -> tuple[Sequence[int], Removal | None]:
    """Tokens of each example's trace, and how they are taken away; neither where they are not."""
    settings = job.train.internalise
    if settings is None:
        return (), None
    traces = array("q", pairs["trace"][:])
    return traces, Removal(max(traces), int(settings.share * steps), settings.smoothing, job.seed)


def _start(job: TrainJob) -> tuple[Any, torch.optim.Optimizer]:
    """The model under DeepSpeed on the process group that torch has, and its AdamW."""
    settings = job.train
    # Gloo does on CPU what this optional op does, without compiling C++ when a worker starts.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Takes over the process group; sharding while loading asks it for the number of workers.
    deepspeed.init_distributed(torch.distributed.get_backend())
    gpu = deepspeed.get_accelerator().device_name() == "cuda"
    config = deepspeed_config(settings, torch.distributed.get_world_size(), gpu)
    # Kept alive while the model is built: under ZeRO-3 it makes transformers shard the weights as they load.
    sharding = HfDeepSpeedConfig(config) if settings.zero_stage == 3 else None
    model = load_model(job)
    del sharding
    adam = make_adam(model, settings)
    engine, *_ = deepspeed.initialize(model=model, optimizer=adam, config=config)
    return engine, adam
