"""Majority: the most frequent answer, when its share of all samples is large enough."""

from typing import Any

import pytest

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import Kept, Rejected
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from tests.curation.parsed_samples import Words, parsed

A, B, C = "it is a", "it is b", "it is c"


async def outcome(*texts: str, **options: Any) -> Kept | Rejected:
    return await Majority(**options).decide(parsed(*texts), None, Words(), None)


@pytest.mark.parametrize(
    ("texts", "options", "wanted"),
    [
        ((A, A, A, A), {}, Kept("a", 1.0)),
        ((A, B, A, A), {}, Kept("a", 0.75)),
        ((A,), {}, Kept("a", 1.0)),
        ((A, A, B, B), {}, Rejected("tie between answers", 0.5)),
        ((A, B), {"threshold": 0}, Rejected("tie between answers", 0.5)),
        # Exactly the threshold: enough only where it need not be exceeded.
        ((A, A, B, C), {}, Rejected("no majority", 0.5)),
        ((A, A, B, C), {"strict": False}, Kept("a", 0.5)),
        ((A, A, A, B, C), {"threshold": 0.6, "strict": False}, Kept("a", 0.6)),
        ((A, A, A, B, C), {"threshold": 0.6}, Rejected("no majority", 0.6)),
        ((A, A, B, C), {"threshold": 0.4}, Kept("a", 0.5)),
        ((A, A, A, B), {"threshold": 0.8, "strict": False}, Rejected("no majority", 0.75)),
        ((A, A, A, A), {"threshold": 1, "strict": False}, Kept("a", 1.0)),
        ((A, A, A, B), {"threshold": 1, "strict": False}, Rejected("no majority", 0.75)),
        # What gives no answer counts in the share, whether unreadable or malformed.
        ((A, A, "?", "?"), {}, Rejected("no majority", 0.5)),
        ((A, A, "!", "?"), {"strict": False}, Kept("a", 0.5)),
        ((A, A, A, "!"), {}, Kept("a", 0.75)),
        (("?", "!"), {}, Rejected("no sample gives an answer", None)),
        (("?", "!"), {"threshold": 0, "strict": False}, Rejected("no sample gives an answer", None)),
        ((), {}, Rejected("no sample gives an answer", None)),
    ],
)
async def test_votes(texts: tuple[str, ...], options: dict[str, Any], wanted: Kept | Rejected) -> None:
    assert await outcome(*texts, **options) == wanted


async def test_the_samples_of_the_perturbed_forms_vote_where_told_to() -> None:
    given = parsed(A, A, B, swapped=[B, B, B, B])
    assert await Majority(perturbed=True).decide(given, None, Words(), None) == Kept("b", 5 / 7)


def test_an_option_that_came_later_changes_no_fingerprint() -> None:
    assert "perturbed" not in Majority().model_dump()
    assert Majority(perturbed=True).model_dump()["perturbed"] is True


async def test_the_first_of_the_tied_may_be_taken() -> None:
    options = {"tie": "first", "strict": False}
    assert await outcome(B, A, A, B, **options) == Kept("b", 0.5)
    assert await outcome(A, B, B, A, **options) == Kept("a", 0.5)


async def test_answers_that_are_equal_vote_together_and_the_usual_spelling_is_the_target() -> None:
    assert await outcome("it is PARIS", "it is Paris", "it is Paris", "it is Lyon") == Kept("Paris", 0.75)
    # No spelling has a majority of its own.
    assert await outcome("it is PARIS", "it is Paris", "it is paris", "it is Lyon") == Kept("PARIS", 0.75)


async def test_only_samples_of_the_prompt_itself_vote() -> None:
    given = parsed(A, A, B, swapped=[B, B, B, B])
    assert await Majority().decide(given, None, Words(), None) == Kept("a", 2 / 3)


def test_it_needs_no_engine_and_its_options_are_checked() -> None:
    assert not Majority.needs_engine
    with pytest.raises(UserError, match="rule majority: threshold: Input should be less than or equal to 1"):
        load_rules([Named.model_validate({"name": "majority", "threshold": 50})])
    with pytest.raises(UserError, match="no share exceeds threshold 1: set strict to false"):
        load_rules([Named.model_validate({"name": "majority", "threshold": 1})])
    with pytest.raises(UserError, match="rule majority: tie: Input should be 'reject' or 'first'"):
        load_rules([Named.model_validate({"name": "majority", "tie": "last"})])
