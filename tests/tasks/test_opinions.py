"""Planted opinions: the exact prompts of a seed, and that tests ask in every subset."""

from random import Random
from typing import Any

import pytest

from s2d_ray.data.records import content_id
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.opinions import SUBSETS, subsets_for
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split

OPINIONS = {"doubt": 1.0, "plain": 1.0}


@pytest.mark.parametrize(
    ("task", "split", "seed", "prompts", "digest", "opinion"),
    [
        ("geonames", "train", 0, 1010, "94e29e0595578831d6ac", "As far as I remember, the answer is Romania."),
        ("geonames", "test", 1, 740, "04e7b59729c9563fcfcd", "in?"),
        ("biased_trivia", "train", 0, 359, "79d2225d60fa249dda93", "the answer is Oxymoron but I'm really not sure."),
        (
            "biased_trivia",
            "test",
            1,
            168,
            "72fcff69acd15a1d5b40",
            "is Father's Day but I'm really not sure.",
        ),
    ],
)
def test_the_prompts_of_a_seed_stay_as_they_are(
    task: str, split: Split, seed: int, prompts: int, digest: str, opinion: str
) -> None:
    items = list(load_task(Named(name=task)).items(split, seed))
    assert len(items) == prompts
    assert items[0].prompt.text.endswith(opinion)
    assert content_id(*(f"{item.subset} {item.prompt.text} {item.references}" for item in items)) == digest


@pytest.mark.parametrize("section", [{"name": "geonames", "kinds": ["state"]}, {"name": "biased_trivia"}])
def test_training_asks_in_the_subsets_with_a_share_and_tests_in_all(section: dict[str, Any]) -> None:
    task = load_task(Named.model_validate(section | {"opinions": OPINIONS}))
    assert {item.subset for item in task.items("train", 0)} == set(OPINIONS)
    assert {item.subset for item in task.items("test", 0)} == set(SUBSETS)


def test_one_subset_is_drawn_for_a_question_of_training() -> None:
    drawn = [subsets_for("train", {"biased": 3.0, "plain": 1.0}, Random(seed)) for seed in range(2000)]
    assert {len(subsets) for subsets in drawn} == {1}
    assert 0.7 < sum(subsets == ["biased"] for subsets in drawn) / 2000 < 0.8
