"""What each optimizer step does: a function of seed and step alone, so that any number of workers can go on."""

from collections.abc import Sequence
from math import ceil, cos, pi
from random import Random
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def total_steps(examples: int, batch_size: int, epochs: float, limit: int | None = None) -> int:
    """Optimizer steps in all; at least one, and at most `limit`."""
    steps = max(1, round(epochs * examples / batch_size))
    return steps if limit is None else min(steps, limit)


def batches(examples: int, batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Per step the indices of its examples; every pass over the examples is shuffled anew."""
    stream: list[int] = []
    epoch = 0
    while len(stream) < steps * batch_size:
        order = list(range(examples))
        Random(f"{seed}/epoch/{epoch}").shuffle(order)
        stream += order
        epoch += 1
    return [stream[step * batch_size : (step + 1) * batch_size] for step in range(steps)]


def accumulation_steps(batch_size: int, workers: int, micro_batch_size: int) -> int:
    """Micro-batches of each worker in one optimizer step."""
    return ceil(batch_size / (workers * micro_batch_size))


def micro_batches(batch: Sequence[int], workers: int, micro_batch_size: int) -> list[list[list[int]]]:
    """Per worker its micro-batches, which together are the batch.

    All workers have equally many, since they exchange gradients after each; sizes differ by one at most. Where there
    are more micro-batches than examples, some are empty.
    """
    rounds = accumulation_steps(len(batch), workers, micro_batch_size)
    dealt = [list(batch[start :: rounds * workers]) for start in range(rounds * workers)]
    return [dealt[worker::workers] for worker in range(workers)]


def rate_share(schedule: Schedule, step: int, steps: int, warmup_share: float) -> float:
    """The learning rate of a step, counted from 0, as a share of its peak.

    It rises in a straight line over the warm-up; then it stays (`constant`), or falls to nearly zero at the last step
    in a straight line (`linear`) or along half a cosine (`cosine`).
    """
    warmup = round(warmup_share * steps)
    if step < warmup:
        return step / warmup
    gone = (step - warmup) / (steps + 1 - warmup)
    return {"linear": 1 - gone, "cosine": (1 + cos(pi * gone)) / 2, "constant": 1.0}[schedule]
