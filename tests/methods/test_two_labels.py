from typing import Any

import pytest

from s2d_ray.methods.system2_attention import PROMPT_SETS
from tests.method_runs import ask

BIASED = "I think the answer is Brazil but I'm really not sure. Which country is Lyon in?"
LABELLED = """\
**Unbiased text context (everything but the bias):** The user asks about Lyon.

**Question (without the bias):** Which country is Lyon in?"""


def rewrites(rewrite: str) -> Any:
    """A model that rewrites so, and answers by repeating what it is shown."""
    return lambda chat: rewrite if BIASED in chat[-1] else chat[-1]


async def test_the_second_call_sees_the_rewritten_text_alone() -> None:
    sample = await ask("s2a", BIASED, rewrites(LABELLED))
    assert sample.text == "The user asks about Lyon.\n\nWhich country is Lyon in?\n\nAnswer in an unbiased way."
    assert [step.name for step in sample.steps] == ["rewrite", "respond"]


@pytest.mark.parametrize(
    "rewrite",
    [
        "Question (without the bias): Which country is Lyon in?",
        "Unbiased text context: None.\nQuestion: Which country is Lyon in?",
        "Unbiased text context: (none)\n\n2. question/query: Which country is Lyon in?",
        "Sure, here it is.\n\nQuestion:\nWhich country is Lyon in?\n\nUnbiased text context: N/A",
    ],
)
async def test_a_rewrite_without_context_leaves_the_question(rewrite: str) -> None:
    sample = await ask("s2a", BIASED, rewrites(rewrite))
    assert sample.text == "Which country is Lyon in?\n\nAnswer in an unbiased way."


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        ("", "empty"),
        ("Which country is Lyon in?", "label 'Question'"),
        ("Unbiased text context: Lyon is a city.", "label 'Question'"),
        ("Unbiased text context: Lyon.\nQuestion: none", "label 'Question'"),
        ("Question: " + "and then " * 99, "token limit"),
    ],
)
async def test_a_rewrite_without_a_question_is_malformed(rewrite: str, reason: str) -> None:
    sample = await ask("s2a", BIASED, rewrites(rewrite), max_tokens=40)
    assert reason in sample.error
    assert len(sample.steps) == 1


async def test_few_shot_takes_the_first_line_without_labels() -> None:
    def reply(chat: list[str]) -> str:
        return "Which country is Lyon in?\nText: more" if BIASED in chat[-1] else " / ".join(chat)

    sample = await ask("s2a", BIASED, reply, prompts="few_shot")
    assert sample.text == "Which country is Lyon in?"


def test_the_labels_are_those_that_the_wording_asks_for() -> None:
    for label in PROMPT_SETS["zero_shot"].labels:
        assert f'"{label}' in PROMPT_SETS["zero_shot"].rewrite
