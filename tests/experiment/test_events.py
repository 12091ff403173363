"""What clients send as feedback, and what requests cost."""

from dataclasses import fields
from typing import Any

import pytest

from s2d_ray.errors import UserError
from s2d_ray.experiment.events import Feedback, cost
from s2d_ray.experiment.store import KINDS, SCHEMAS
from s2d_ray.recipes.serve import Prices
from s2d_ray.recipes.strict import parse


def feedback(**said: Any) -> Feedback:
    return parse(Feedback, {"request_id": "s2d-1", **said}, where="feedback")


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ({"score": 0}, 0.0),
        ({"score": 0.7}, 0.7),
        ({"preference": "this"}, 1.0),
        ({"preference": "same"}, 0.5),
        ({"preference": "other"}, 0.0),
    ],
)
def test_a_score_or_a_preference_becomes_a_score(said: dict[str, Any], score: float) -> None:
    assert feedback(**said).rating == score


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "say either score"),
        ({"score": 1, "preference": "this"}, "say either score"),
        ({"score": 1.5}, "score: Input should be less than or equal to 1"),
        ({"score": float("nan")}, "score: Input should be a finite number"),
        ({"preference": "mine"}, "preference: Input should be 'this', 'other' or 'same'"),
        ({"score": 1, "request_id": "x" * 101}, "request_id: String should have at most 100 characters"),
        ({"score": 1, "who": "ada"}, "unknown key who"),
    ],
)
def test_feedback_that_says_nothing_clear_is_refused(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        feedback(**said)
    assert problem in str(caught.value)


def test_a_schema_has_the_fields_of_its_event() -> None:
    for event, kind in KINDS.items():
        assert SCHEMAS[kind].names == [field.name for field in fields(event)]


def test_cost_is_by_the_million_tokens() -> None:
    assert cost(Prices(prompt=2, completion=10), 1_000_000, 500_000) == 7
    assert cost(None, 10, 10) is None
