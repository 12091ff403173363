from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import Prompt, user
from s2d_ray.methods.branch_solve_merge import PROMPT_SETS
from s2d_ray.methods.judgements import parse_criteria, parse_verdict, verdict_of_scores
from tests.method_runs import ask

PAIR = Prompt("id", [user("judge")], {"question": "What is tea?", "response_a": "GOOD drink", "response_b": "bad"})
PLAN = "Here is a plan:\n1. **Truth**: it is right\n2. Depth: it says enough\n\nGood luck!"


def judge(plan: str = PLAN, evaluation: str = "", merged: str = "") -> Any:
    """A model that prefers the response with GOOD in it, unless told what to say."""

    def reply(chat: list[str]) -> str:
        text = chat[-1]
        if "[[A]]" in text:
            return merged or text
        if "Criterion" not in text:
            return plan
        good_first = "GOOD" in text.partition("Response B")[0]
        return evaluation or ("Score: 5\n2/5\nwhy" if good_first else "A: 2\nB: 5\nwhy")

    return reply


def swapped() -> Prompt:
    fields = {**PAIR.fields, "response_a": PAIR.fields["response_b"], "response_b": PAIR.fields["response_a"]}
    return Prompt("id", PAIR.messages, fields)


async def test_branches_once_solves_each_criterion_and_sums() -> None:
    sample = await ask("bsm", PAIR, judge())
    assert (sample.text, sample.error) == ("A", "")
    assert [step.name for step in sample.steps] == ["branch", "solve 1", "solve 2"]
    assert (await ask("bsm", swapped(), judge())).text == "B"


async def test_the_plan_is_made_from_the_question_only() -> None:
    seen: list[str] = []

    def reply(chat: list[str]) -> str:
        seen.append("\n".join(chat))
        return str(judge()(chat))

    await ask("bsm", PAIR, reply)
    assert "What is tea?" in seen[0]
    assert "GOOD" not in seen[0]
    assert "Truth: it is right" in seen[1]
    assert "Depth: it says enough" in seen[2]


@pytest.mark.parametrize(("plan", "solved"), [("\n".join(f"- C{i}: x" for i in range(9)), 5), ("Truth: is it so?", 1)])
async def test_at_most_five_criteria_are_solved(plan: str, solved: int) -> None:
    sample = await ask("bsm", PAIR, judge(plan))
    assert len(sample.steps) == 1 + solved


async def test_both_orders_agree_or_tie() -> None:
    agreed = await ask("bsm", PAIR, judge(), both_orders=True)
    assert agreed.text == "A"
    assert len(agreed.steps) == 5
    biased = await ask("bsm", PAIR, judge(evaluation="5\n1"), both_orders=True)
    assert biased.text == "tie"
    assert (await ask("bsm", PAIR, judge(evaluation="5\n1"))).text == "A"


async def test_the_model_merges_from_all_evaluations() -> None:
    sample = await ask("bsm", PAIR, judge(merged="Mixed, [[A]] or [[tie]]? [[B]]"), merge="model")
    assert sample.text == "B"
    assert sample.steps[-1].name == "merge"
    shown = await ask("bsm", PAIR, judge(evaluation="5\n1\nEVALUATED"), merge="model")
    assert shown.steps[-1].text.count("EVALUATED") == 2


@pytest.mark.parametrize(
    ("texts", "options", "reason", "calls"),
    [
        ({"plan": ""}, {}, "no criteria", 1),
        ({"plan": "I would look at many things."}, {}, "no criteria", 1),
        ({"evaluation": "Both are fine."}, {}, "no score from 1 to 5 for A", 3),
        ({"evaluation": "A: 4"}, {}, "no score from 1 to 5 for B", 3),
        ({"evaluation": "A: 9\nB: 2"}, {}, "no score from 1 to 5 for A", 3),
        ({"evaluation": "A: 4\nB: 0"}, {}, "no score from 1 to 5 for B", 3),
        ({"evaluation": "words without end " * 99}, {}, "no score", 3),
        ({"merged": "I like both."}, {"merge": "model"}, "no winner", 4),
        ({"merged": "I like both."}, {"merge": "model", "both_orders": True}, "no winner", 7),
    ],
)
async def test_malformed_steps_end_the_sample_with_all_its_calls(
    texts: dict[str, str], options: dict[str, Any], reason: str, calls: int
) -> None:
    sample = await ask("bsm", PAIR, judge(**texts), **options)
    assert reason in sample.error
    assert len(sample.steps) == calls


async def test_few_shot_examples_can_be_read_by_the_method() -> None:
    for _, plan in PROMPT_SETS["few_shot"].branch.examples:
        assert len(parse_criteria(plan)) == 2
    assert [verdict_of_scores([reply]) for _, reply in PROMPT_SETS["few_shot"].solve.examples] == ["A", "B"]
    assert (await ask("bsm", PAIR, judge(), prompts="few_shot")).text == "A"


@pytest.mark.parametrize(
    ("evaluation", "verdict"),
    [
        ("5\n4", "A"),
        ("3\n\n3\nequal", "tie"),
        ("Score of A: 4/5\nScore of B: 4.5", "B"),
        ("**A: 2**\n**B: 1**", "A"),
        ("1. A (1-5): 2\n2. B (1-5): 5", "B"),
    ],
)
def test_scores_are_read_however_they_are_set(evaluation: str, verdict: str) -> None:
    assert verdict_of_scores([evaluation]) == verdict


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5))
def test_swapping_the_scores_swaps_the_verdict(scores: list[tuple[int, int]]) -> None:
    forth = verdict_of_scores([f"A: {a}\nB: {b}" for a, b in scores])
    back = verdict_of_scores([f"A: {b}\nB: {a}" for a, b in scores])
    assert {"A": "B", "B": "A", "tie": "tie"}[forth] == back


def test_a_winner_is_named_in_any_case() -> None:
    assert parse_verdict("[[b]]") == "B"
    assert parse_verdict("first [[A]], then [[TIE]]") == "tie"
    assert parse_verdict("All in all, response B is better.") == "B"


async def test_a_task_without_pairs_is_refused() -> None:
    with pytest.raises(Exception, match="gives no question and no response_a"):
        await ask("bsm", "no pair", judge())
