"""What each optimizer step does: a function of seed and step alone, so that any number of workers can go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heapreplace
from math import ceil, cos, log, pi
from typing import Any, Literal

Schedule = Literal["linear", "cosine", "constant"]
Lengths = Sequence[int] | Mapping[int, int]
"""Index of an example → its tokens."""
ORDER_VERSION = 2
"""To be counted up with every change of which examples a step has, so that no training goes on in another order than
it began in."""
LOSS_LOGITS = 2**25
"""Logits at most that the loss holds in float32 at a time, of some tokens after the others: 128 MiB."""
ROUNDS = 8
"""Of the shuffle: four make it hard to tell from a random one where there is much to shuffle, more where little."""


def total_steps(examples: int, batch_size: int, epochs: float) -> int:
    """Optimizer steps of so many passes over the examples; at least one."""
    return max(1, round(epochs * examples / batch_size))


def batches(examples: int, batch_size: int, steps: int, seed: int) -> Sequence[list[int]]:
    """Per step the indices of its examples; every pass over the examples is shuffled anew.

    A step's are computed when they are asked for: no list of all is made.
    """
    return _Batches(examples, batch_size, steps, seed)


@dataclass(frozen=True)
class _Batches(Sequence[list[int]]):
    examples: int
    batch_size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return [self[i] for i in range(*step.indices(self.steps))]
        first = range(self.steps)[step] * self.batch_size
        return [self._example(number) for number in range(first, first + self.batch_size)]

    def _example(self, number: int) -> int:
        epoch, place = divmod(number, self.examples)
        return shuffled(place, self.examples, f"{self.seed}/epoch/{epoch}")


def shuffled(place: int, size: int, key: str) -> int:
    """What a shuffle of the numbers below `size` has at a place; the key decides the shuffle.

    A Feistel network, whose rounds can each be undone, permutes the numbers of twice so many bits as are in a half;
    one that is too large is put in again until what comes out is small enough.
    """
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = divmod(place, 1 << bits)
        for number in range(ROUNDS):
            digest = blake2b(f"{key}/{number}/{right}".encode(), digest_size=8).digest()
            left, right = right, left ^ int.from_bytes(digest, "little") % (1 << bits)
        place = left << bits | right
        if place < size:
            return place


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
    batch: Sequence[int], lengths: Lengths, workers: int, most_tokens: int
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


def _spread(longest_first: Sequence[int], lengths: Lengths, number: int) -> list[list[int]]:
    """So many micro-batches; each example goes to the one that has the fewest tokens so far."""
    found: list[list[int]] = [[] for _ in range(number)]
    fewest = [(0, place) for place in range(number)]
    for index in longest_first:
        tokens, place = fewest[0]
        found[place].append(index)
        heapreplace(fewest, (tokens + lengths[index], place))
    return found


@dataclass(frozen=True)
class Removal:
    """How many of its first tokens a trace has lost at a step, whatever steps were made before and by whom."""

    longest: int
    """Tokens of the longest trace."""
    steps: int
    """In which traces are taken away; from then on there are none."""
    smoothing: float
    """The chance that one loses n tokens more falls as exp(-n * smoothing)."""
    seed: int

    def lost(self, step: int, example: int) -> int:
        """At a step, counted from 0; it may be more than the example's trace has."""
        if step >= self.steps:
            return self.longest
        digest = blake2b(f"{self.seed}/removal/{step}/{example}".encode(), digest_size=8).digest()
        more = -log((1 + int.from_bytes(digest, "little")) / 2**64) // self.smoothing
        return self.longest * step // self.steps + int(more)


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
