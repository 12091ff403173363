"""Which examples make up each optimizer step: a pure function of seed and step, so that a resume is exact."""

from collections.abc import Sequence
from random import Random

WINDOW_STEPS = 16
"""Steps whose examples are grouped by length together."""


def total_steps(examples: int, batch_size: int, epochs: float) -> int:
    """Optimizer steps in all; at least one."""
    return max(1, round(epochs * examples / batch_size))


def batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Per step the indices of its examples.

    Every pass is shuffled; within a window of steps examples of like length share a batch, so that little
    is padded.
    """
    stream: list[int] = []
    epoch = 0
    while len(stream) < steps * batch_size:
        order = list(range(len(lengths)))
        Random(f"{seed}/epoch/{epoch}").shuffle(order)
        stream += order
        epoch += 1
    result: list[list[int]] = []
    window = WINDOW_STEPS * batch_size
    for start in range(0, steps * batch_size, window):
        chunk = sorted(stream[start : min(start + window, steps * batch_size)], key=lambda i: lengths[i])
        grouped = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        Random(f"{seed}/window/{start}").shuffle(grouped)
        result += grouped
    return result
