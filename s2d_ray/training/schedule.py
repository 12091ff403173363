"""What each optimizer step does: a function of seed and step alone, so that any number of workers can go on."""

from collections.abc import Sequence
from heapq import heapreplace
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


def filled_micro_batches(
    batch: Sequence[int], lengths: Sequence[int], workers: int, most_tokens: int
) -> list[list[list[int]]]:
    """Per worker its micro-batches, which together are the batch, of `most_tokens` at most each.

    An example that is longer is one of its own. All workers have equally many, the fewest that are found to do, of
    about equally many tokens; some are empty where there are more micro-batches than examples.
    """
    longest_first = sorted(batch, key=lengths.__getitem__, reverse=True)

    def tokens(micro: Sequence[int]) -> int:
        return sum(lengths[index] for index in micro)

    # What would do if all rows could be filled to the last token.
    rounds = ceil(sum(min(lengths[index], most_tokens) for index in batch) / (workers * most_tokens))
    while True:
        found = _spread(longest_first, lengths, rounds * workers)
        if all(len(micro) <= 1 or tokens(micro) <= most_tokens for micro in found):
            break
        rounds += 1
    # All workers wait for the longest micro-batch of a round: those that are longer than the others come first.
    return [found[worker::workers] for worker in range(workers)]


def _spread(longest_first: Sequence[int], lengths: Sequence[int], number: int) -> list[list[int]]:
    """So many micro-batches; each example goes to the one that has the fewest tokens so far."""
    found: list[list[int]] = [[] for _ in range(number)]
    fewest = [(0, place) for place in range(number)]
    for index in longest_first:
        tokens, place = fewest[0]
        found[place].append(index)
        heapreplace(fewest, (tokens + lengths[index], place))
    return found


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
