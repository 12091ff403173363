"""The plan of training: every example once a pass, the same plan after a restart."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from math import ceil, log
from random import Random

import pytest
from scipy.stats import chisquare

from s2d_ray.training.schedule import (
    Removal,
    Schedule,
    accumulation_steps,
    batches,
    filled_micro_batches,
    micro_batches,
    rate_share,
    shuffled,
    total_steps,
)


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "steps"),
    [(320, 16, 2.0, 40), (320, 16, 0.5, 10), (100, 16, 1.0, 6), (104, 16, 1.0, 6), (105, 16, 1.0, 7), (3, 16, 1.0, 1)],
)
def test_steps_are_those_of_the_passes_asked_for(examples: int, batch_size: int, epochs: float, steps: int) -> None:
    assert total_steps(examples, batch_size, epochs) == steps


@pytest.mark.parametrize(("examples", "batch_size"), [(32, 8), (30, 8), (5, 8), (1, 3)])
def test_every_pass_sees_every_example_once(examples: int, batch_size: int) -> None:
    plan = batches(examples, batch_size, steps=12, seed=0)
    assert [len(batch) for batch in plan] == [batch_size] * 12
    stream = [index for batch in plan for index in batch]
    for start in range(0, len(stream) - examples + 1, examples):
        assert sorted(stream[start : start + examples]) == list(range(examples))
    counts = Counter(stream)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_pass_is_shuffled_anew() -> None:
    first, second = batches(64, 64, steps=2, seed=0)
    assert first != second
    assert list(range(64)) not in (first, second)


def test_the_plan_is_the_same_for_the_same_seed_and_does_not_change_with_the_steps() -> None:
    assert list(batches(50, 8, 20, seed=3)) == list(batches(50, 8, 20, seed=3))
    assert list(batches(50, 8, 20, seed=3)) != list(batches(50, 8, 20, seed=4))
    assert list(batches(50, 8, 5, seed=3)) == batches(50, 8, 20, seed=3)[:5]


def test_no_steps_have_no_batches() -> None:
    assert list(batches(5, 8, 0, seed=0)) == []


def test_the_order_stays_what_it_is() -> None:
    """A change of it is to be counted in ORDER_VERSION, and this line to be renewed."""
    assert list(batches(10, 4, 3, seed=7)) == [[8, 9, 5, 0], [2, 3, 7, 6], [1, 4, 5, 3]]


def test_a_step_of_a_corpus_of_any_size_costs_the_same_memory() -> None:
    tracemalloc.start()
    plan = batches(10**9, 64, 10**8, seed=0)
    assert len({index for step in (0, 10**7, 10**8 - 1) for index in plan[step]}) == 3 * 64
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 24, 100, 1000])
def test_a_shuffle_has_every_number_once(size: int) -> None:
    for key in ("a", "b"):
        assert sorted(shuffled(place, size, key) for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [4, 24])
def test_a_shuffle_is_as_even_as_a_random_one(size: int) -> None:
    """Each number comes at each place, and each distance between neighbours, equally often over many keys."""
    shuffles = [[shuffled(place, size, str(key)) for place in range(size)] for key in range(1000)]
    for place in (0, size // 2, size - 1):
        assert chisquare(list(Counter(order[place] for order in shuffles).values())).pvalue > 1e-3
    distances = Counter((order[1] - order[0]) % size for order in shuffles)
    assert len(distances) == size - 1
    assert chisquare(list(distances.values())).pvalue > 1e-3


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 20])
def test_workers_share_a_batch_in_equally_many_micro_batches(workers: int, size: int) -> None:
    batch = list(range(100, 116))
    dealt = micro_batches(batch, workers, size)
    assert [len(mine) for mine in dealt] == [accumulation_steps(16, workers, size)] * workers
    assert sorted(index for mine in dealt for micro in mine for index in micro) == batch
    sizes = [len(micro) for mine in dealt for micro in mine]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert sum(size == 0 for size in sizes) < workers


def test_a_trace_is_taken_away_in_a_straight_line_and_then_there_is_none() -> None:
    removal = Removal(longest=10, steps=4, smoothing=100.0, seed=0)
    assert [removal.lost(step, 7) for step in range(6)] == [0, 2, 5, 7, 10, 10]
    assert [Removal(10, 0, 100.0, 0).lost(step, 7) for step in range(2)] == [10, 10]
    assert [Removal(1, 3, 100.0, 0).lost(step, 7) for step in range(4)] == [0, 0, 0, 1]


def test_some_traces_lose_more_than_the_step_says_as_often_as_the_smoothing_says() -> None:
    removal = Removal(longest=0, steps=100, smoothing=log(4), seed=3)
    counts = Counter(removal.lost(step, example) for step in range(100) for example in range(200))
    # One in four loses any, one in 16 two or more, and so on.
    expected = [20_000 * 3 / 4 ** (n + 1) for n in range(4)]
    assert [counts[n] for n in range(4)] == pytest.approx(expected, rel=0.1)
    assert [removal.lost(9, example) for example in range(50)] == [removal.lost(9, example) for example in range(50)]
    assert [removal.lost(9, example) for example in range(50)] != [removal.lost(8, example) for example in range(50)]
    assert replace(removal, steps=9).lost(9, 0) == 0, "nothing more where all is gone"


def rates(schedule: Schedule, steps: int, warmup_share: float) -> list[float]:
    return [rate_share(schedule, step, steps, warmup_share) for step in range(steps)]


def test_the_learning_rate_rises_to_its_peak_and_falls_by_its_schedule() -> None:
    rising = [0.0, 0.25, 0.5, 0.75, 1.0]
    linear, cosine, constant = (rates(schedule, 16, 0.25) for schedule in ("linear", "cosine", "constant"))
    for found in (linear, cosine, constant):
        assert found[:5] == rising
    assert constant[4:] == [1.0] * 12
    assert linear[4:] == pytest.approx([1 - step / 13 for step in range(12)])
    # Above the straight line at first, below it at last, and at one half in the middle.
    assert cosine[6] > linear[6]
    assert cosine[15] < linear[15]
    assert rate_share("cosine", 10, 15, 4 / 15) == pytest.approx(0.5)
    assert sorted(cosine[4:], reverse=True) == cosine[4:]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_without_a_warm_up_the_first_step_has_the_peak(schedule: Schedule) -> None:
    assert rates(schedule, 10, 0.0)[0] == 1.0
    assert rates(schedule, 1, 0.5)[0] == 1.0


LENGTHS = [1 + Random("lengths").randrange(1, 60) ** 2 // 40 for _ in range(64)]
"""Tokens of examples, most of them short."""


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("most", [1, 40, 90, 150, 10_000])
def test_a_row_is_filled_up_to_its_tokens_and_all_workers_have_equally_many(workers: int, most: int) -> None:
    batch = list(range(10, 50))
    dealt = filled_micro_batches(batch, LENGTHS, workers, most)
    assert len({len(mine) for mine in dealt}) == 1
    rows = [micro for mine in dealt for micro in mine]
    assert sorted(index for row in rows for index in row) == batch
    tokens = [[LENGTHS[index] for index in row] for row in rows]
    assert all(len(row) <= 1 or sum(row) <= most for row in tokens)
    if most == 10_000:
        assert len(dealt[0]) == 1
    if most == 1:
        assert max(map(len, rows)) == 1


def test_the_rows_of_a_round_are_about_equally_long() -> None:
    dealt = filled_micro_batches(list(range(64)), LENGTHS, 4, 150)
    spread = [[sum(LENGTHS[index] for index in row) for row in round] for round in zip(*dealt, strict=True)]
    assert all(max(tokens) - min(tokens) <= 5 for tokens in spread)
    # No more rounds than the longest rows that are allowed would take, and one.
    assert len(spread) <= ceil(sum(LENGTHS) / (4 * 150)) + 1


def test_long_examples_are_in_one_round() -> None:
    one, two = filled_micro_batches([0, 1, 2, 3, 4, 5], [30, 400, 30, 500, 30, 30], 2, 60)
    assert (one[0], two[0]) == ([3], [1])


def test_the_same_example_twice_in_a_batch_is_trained_on_twice() -> None:
    [[row]] = filled_micro_batches([3, 3, 5], [9] * 6, 1, 50)
    assert sorted(row) == [3, 3, 5]


def test_an_example_longer_than_a_row_is_a_row_of_its_own() -> None:
    [mine] = filled_micro_batches([0, 1, 2], [500, 30, 20], 1, 60)
    assert mine == [[0], [1, 2]]
