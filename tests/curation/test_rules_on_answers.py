"""The rules over candidates that a scripted model gave, and over candidates written by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.curation.registry import RULES, load_rules
from s2d_ray.curation.rule import curate_prompt
from s2d_ray.curation.universal import named_response
from s2d_ray.data.records import Candidates, Prompt, Row, Sample, Step, user
from s2d_ray.errors import UserError
from s2d_ray.inference.method_runs import Recorder
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.biased_trivia import BiasedTrivia
from s2d_ray.tasks.judge import Judge
from s2d_ray.tasks.task import Task
from tests.method_runs import engine_that_says

QUESTION = Prompt("id", [user("Who wrote Emma?")], {"plain": "Who wrote Emma?"})
PAIR = next(Judge().items("train", 0)).prompt


def answers(*texts: str, variant: str = "", finish_reason: str = "stop") -> list[Sample]:
    """Samples with one step each; an empty text is a sample that ended in an error."""
    return [
        Sample(text, variant, "" if text else "malformed", (Step("answer", text, finish_reason, 1, 0, 1, 0.0),))
        for text in texts
    ]


async def curate(
    rules: Sequence[Named | str],
    samples: Sequence[Sample],
    said: str | None = None,
    task: Task | None = None,
    prompt: Prompt = QUESTION,
) -> Row:
    """The outcome of rules over samples; `said` is what the model says when asked, and `asked` what it was asked."""
    asked: list[str] = []

    def reply(chat: list[str]) -> str:
        asked.append(chat[-1])
        return str(said)

    sections = [Named(name=rule) if isinstance(rule, str) else rule for rule in rules]
    generate = None if said is None else Recorder(engine_that_says(reply), Sampling(max_tokens=200), ("seed",))
    row = await curate_prompt(Candidates(prompt, samples), load_rules(sections), task or BiasedTrivia(), generate)
    return row | {"asked": asked}


AUSTEN = ("Jane Austen.", "It was Jane Austen", "Charlotte Bronte")


async def test_universal_keeps_the_response_that_the_model_names() -> None:
    row = await curate(["universal"], answers(*AUSTEN), "The most consistent response is Response 2.")
    assert (row["status"], row["target"], row["rule"]) == ("kept", AUSTEN[1], "universal")
    assert row["vote_share"] == pytest.approx(1 / 3)
    for number, text in enumerate(AUSTEN, start=1):
        assert f"Response {number}: {text}" in row["asked"][0]
    assert "Who wrote Emma?" in row["asked"][0]


async def test_universal_composes_where_told_to() -> None:
    compose = Named(name="universal", mode="compose")
    row = await curate([compose], answers(*AUSTEN), " Jane Austen wrote it. ")
    assert (row["status"], row["target"]) == ("kept", "Jane Austen wrote it.")
    assert row["vote_share"] == 0


async def test_universal_asks_nothing_where_all_agree() -> None:
    row = await curate(["universal"], answers("Jane Austen.", "jane austen", ""), "never said")
    assert (row["status"], row["target"], row["asked"]) == ("kept", "Jane Austen.", [])
    assert row["vote_share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "said", "reason"),
    [
        ({}, "I cannot decide.", "names no response"),
        ({}, "", "names no response"),
        ({}, "Response 1 or Response 2", "names no response"),
        ({}, "Response 4", "names no response"),
        ({}, "Response 0", "names no response"),
        ({"mode": "compose"}, " ", "composes no answer"),
        ({"mode": "compose"}, "on and on " * 99, "composes no answer"),
        ({"mode": "compose", "max_characters": 20}, "a longer answer than that", "exceeds max_characters"),
    ],
)
async def test_what_the_model_says_wrongly_is_a_reason(options: dict[str, Any], said: str, reason: str) -> None:
    row = await curate([Named(name="universal", **options)], answers(*AUSTEN), said)
    assert row["status"] == "rejected"
    assert reason in row["reason"]


async def test_long_and_cut_responses_are_not_shown() -> None:
    samples = answers("one", "two", "x" * 50) + answers("cut sho", finish_reason="length")
    row = await curate([Named(name="universal", max_characters=40)], samples, "2")
    assert row["target"] == "two"
    assert "Response 3" not in row["asked"][0]
    only = answers("x" * 50) + answers("cut sho", finish_reason="length") + answers("")
    row = await curate([Named(name="universal", max_characters=40)], only, "1")
    assert "no complete response" in row["reason"]


async def test_universal_chooses_among_what_an_earlier_rule_kept() -> None:
    samples = answers("Jane Austen.", "jane austen", "the Jane Austen", "Bronte")
    row = await curate(["majority", "universal"], samples, "never said")
    assert (row["target"], row["rule"], row["asked"]) == ("Jane Austen.", "universal", [])
    row = await curate(["majority", "universal"], answers("Austen", "Bronte"), "Response 1")
    assert (row["status"], row["rule"], row["asked"]) == ("rejected", "majority", [])


async def test_universal_without_an_engine_says_so() -> None:
    with pytest.raises(UserError, match="no engine"):
        await curate(["universal"], answers(*AUSTEN))
    assert RULES["universal"].needs_engine
    assert not any(RULES[name].needs_engine for name in RULES if name != "universal")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        ("**Response 2**", 2),
        ("Response 1 and Response 3 differ. The most consistent response is Response 2.", 2),
        ("I choose Response #3 of them", 3),
        ("There are 3 responses", None),
    ],
)
def test_a_response_is_named_in_several_ways(text: str, number: int | None) -> None:
    assert named_response(text, 3) == number


@given(st.text(), st.integers(1, 20))
def test_a_named_response_exists(text: str, count: int) -> None:
    assert named_response(text, count) in (None, *range(1, count + 1))
    assert named_response(f"The most consistent response is Response {count}.", count) == count


SWAPPED = "swap"


@pytest.mark.parametrize(
    ("own", "swapped", "outcome"),
    [
        (["A"], ["B"], "A"),
        (["B"], ["A"], "B"),
        (["tie"], ["tie"], "tie"),
        (["A"], ["A"], "another answer under swap"),
        (["A"], ["tie"], "another answer under swap"),
        (["A", "A", "B"], ["B", "B", "A"], "A"),
        (["A", "B"], ["B", "B"], "no single most frequent answer"),
        (["A"], ["hm"], "no single most frequent answer under swap"),
        ([""], ["B"], "no single most frequent answer"),
        (["A"], [""], "no single most frequent answer under swap"),
    ],
)
async def test_a_verdict_must_survive_the_swap(own: list[str], swapped: list[str], outcome: str) -> None:
    samples = answers(*own) + answers(*swapped, variant=SWAPPED)
    row = await curate(["consistency"], samples, task=Judge(), prompt=PAIR)
    assert outcome == (row["target"] if row["status"] == "kept" else row["reason"])


async def test_enough_of_all_samples_must_agree() -> None:
    samples = answers("A", "A", "B") + answers("B", "B", "A", variant=SWAPPED)
    row = await curate([Named(name="consistency", threshold=0.6)], samples, task=Judge(), prompt=PAIR)
    assert (row["status"], row["vote_share"]) == ("kept", pytest.approx(4 / 6))
    row = await curate([Named(name="consistency", threshold=0.7)], samples, task=Judge(), prompt=PAIR)
    assert (row["reason"], row["vote_share"]) == ("too few samples agree", pytest.approx(4 / 6))


async def test_consistency_compares_with_what_was_kept_before() -> None:
    samples = answers("A", "A", "A") + answers("B", variant=SWAPPED)
    row = await curate(["majority", "consistency"], samples, task=Judge(), prompt=PAIR)
    assert (row["target"], row["rule"]) == ("A", "consistency")
    first = Named(name="majority", tie="first", strict=False)
    row = await curate(
        [first, "consistency"], answers("A", "B") + answers("B", variant=SWAPPED), task=Judge(), prompt=PAIR
    )
    assert (row["status"], row["target"]) == ("kept", "A")
    samples = answers("A", "A", "A") + answers("A", variant=SWAPPED)
    row = await curate(["majority", "consistency"], samples, task=Judge(), prompt=PAIR)
    assert (row["reason"], row["rule"]) == ("another answer under swap", "consistency")


async def test_consistency_without_perturbations_keeps_nothing() -> None:
    row = await curate(["consistency"], answers("A"), task=Judge(perturbations=()), prompt=PAIR)
    assert row["reason"] == "the task perturbs nothing"
