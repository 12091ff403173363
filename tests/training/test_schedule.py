"""The plan of training: every example once a pass, the same plan after a restart."""

from collections import Counter

import pytest

from s2d_ray.training.schedule import batches, total_steps


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
    assert batches(50, 8, 20, seed=3) == batches(50, 8, 20, seed=3)
    assert batches(50, 8, 20, seed=3) != batches(50, 8, 20, seed=4)
    assert batches(50, 8, 5, seed=3) == batches(50, 8, 20, seed=3)[:5]


def test_no_steps_have_no_batches() -> None:
    assert batches(5, 8, 0, seed=0) == []
