"""Which examples make up each optimizer step: a pure function of seed and step, so that a resume is exact."""

from random import Random


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
