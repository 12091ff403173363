"""Targets that have less reasoning than System 2, by tables of samples."""

from collections.abc import Sequence
from typing import Any

import pytest

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.registry import TARGETS
from s2d_ray.curation.rule import curate_prompt
from s2d_ray.curation.traces import ending_in, written
from s2d_ray.data.records import Candidates, Completion, Message, Prompt, Row, Sample, Step, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.gsm8k import Gsm8k

PROMPT = Prompt("p", [user("How many?\n\nDigits only.")], {"bare": "How many?"})
NO_TRACE = "no whole trace ends in the answer"


def step(text: str, tokens: int = 9, ended: str = "stop", thought: str = "") -> Step:
    return Step("think", text, ended, 5, 0, tokens, 0.1, None, thought)


def sample(text: str, *steps: Step, variant: str = "", error: str = "") -> Sample:
    return Sample(text, variant, error, steps)


def said(text: str, answer: str, tokens: int, ended: str = "stop") -> Sample:
    """Of a method with one call, which gives what it ends in."""
    return sample(answer, step(text, tokens, ended))


class Model:
    """A model that says one thing; it keeps what it was asked, and how."""

    def __init__(self, text: str, tokens: int, ended: str = "stop") -> None:
        self.asked: list[str] = []
        self.how: dict[str, Any] = {}
        self._said = Completion(text, ended, 5, 0, tokens)

    async def __call__(self, messages: Sequence[Any], **how: Any) -> list[Completion]:
        self.asked.append(messages[-1]["content"])
        self.how = how
        return [self._said]


async def outcome(target: str, samples: Sequence[Sample], generate: GenerateFunction | None = None) -> Row:
    rules = [Majority(), *TARGETS[target]]  # type: ignore[index]
    return await curate_prompt(Candidates(PROMPT, samples), rules, Gsm8k(), generate)


LONG, SHORT = "3 * 8 = 24. 24 - 5 = 19. The answer is 19", "24 - 5 = 19. The answer is 19"
OTHER = said("It is 7.", "7", 3)


@pytest.mark.parametrize(
    ("samples", "trained"),
    [
        ([said(LONG, "19", 20), said(SHORT, "19", 12), OTHER], SHORT),
        # Not the shortest text, but the one with fewest tokens, the first of equals.
        ([said(LONG, "19", 11), said(SHORT, "19", 12)], LONG),
        ([said(LONG, "19", 12), said(SHORT, "19", 12)], LONG),
        # Those that give another answer, or the same one to another form of the prompt, are none.
        ([said(LONG, "19", 20), said(LONG, "19", 20), sample("19", step(SHORT, 2), variant="swapped"), OTHER], LONG),
        # What ran into the limit is no whole trace, whatever was read from it.
        ([said(LONG, "19", 20), said(LONG, "19", 20), said(SHORT, "19", 12, "length")], LONG),
        ([sample("19", step("24 is", 4, "length"), step(SHORT, 3)), said(LONG, "19", 20)], LONG),
        # The same number written otherwise is the same answer, and is written as the target is.
        ([said("So: $19.00.", "$19.00", 5), said(LONG, "19", 20), said(LONG, "19", 20)], "So: $19.00.\n\n19"),
        # What only ends the sentence is left out; more than that is not, and the answer comes again.
        ([said("It is 19. ", "19", 5)], "It is 19"),
        ([said("It is 19 pens.", "19 pens", 5)], "It is 19 pens.\n\n19"),
        # All calls of a method, in order; the thought of the one that answers is plain text too.
        ([sample("19", step("Rewritten: 24 - 5?", thought="hm"), step("19", thought="24 less 5."))],
         "Rewritten: 24 - 5?\n\n24 less 5.\n\n19"),
        ([sample("19")], "19"),
    ],
)  # fmt: skip
async def test_the_shortest_trace_that_gives_the_answer_is_trained(samples: list[Sample], trained: str) -> None:
    row = await outcome("shortest", samples)
    assert (row["status"], row["target"], row["rule"]) == ("kept", "19", "shortest")
    assert row["messages"] == [*PROMPT.messages, assistant(trained)]
    assert row["vote_share"] is not None, "the vote is still what speaks for it"


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([said(LONG, "19", 20, "length")], "every sample was cut by the token limit"),
        ([sample("19", step(LONG, ended="length"), step("19"))], NO_TRACE),
        # With the answer behind it the text would still be read otherwise: it marks another one.
        ([said("The final answer is 20 - 1.\n#### 20", "19", 9)], NO_TRACE),
        ([said(LONG, "19", 20), OTHER], "tie between answers"),
    ],
)
async def test_without_a_whole_trace_to_the_answer_the_prompt_is_rejected(samples: list[Sample], reason: str) -> None:
    row = await outcome("shortest", samples)
    assert (row["status"], row["reason"], row["target"]) == ("rejected", reason, "")
    assert row["messages"] == PROMPT.messages


async def test_the_paper_s_target_stays_the_answer_alone() -> None:
    row = await outcome("answer", [said(LONG, "19", 20)])
    assert (row["messages"][-1], row["rule"]) == (assistant("19"), "majority")


@pytest.mark.parametrize(
    ("answer", "text", "ended"),
    [
        ("19", "It is 19", "It is 19"),
        ("19", "It is 19!\n", "It is 19"),
        ("19", "It is **19**", "It is **19**\n\n19"),
        ("19", r"It is \boxed{19}.", "It is \\boxed{19}.\n\n19"),
        # Part of a longer number is not the answer, and the text that ends in it is about another one.
        ("19", "The answer is 119", None),
        ("1/2", "The answer is 0.5", "The answer is 0.5\n\n1/2"),
    ],
)
def test_a_text_ends_in_the_answer_or_is_none(answer: str, text: str, ended: str | None) -> None:
    assert ending_in(answer, text, PROMPT, Gsm8k()) == ended


def test_empty_calls_are_no_part_of_a_trace() -> None:
    assert written(sample("19", step(" "), step("a\n"), step("19"))) == "a\n\n19"


REWRITTEN = "24-5=19\nThe answer is 19"


async def test_the_model_rewrites_its_shortest_trace() -> None:
    model = Model(f"{REWRITTEN}.", 11)
    row = await outcome("shortened", [said(LONG, "19", 20), said(SHORT, "19", 12), OTHER], model)
    assert (row["status"], row["target"], row["rule"]) == ("kept", "19", "shortened")
    assert row["messages"][-1] == assistant(REWRITTEN)
    [asked] = model.asked
    assert "Question: How many?\n" in asked and f"Worked out: {SHORT}\n" in asked and LONG not in asked
    assert "Digits only" not in asked, "what System 1 is told would forbid it to write more than digits"
    assert model.how == {"step": "shorten", "max_tokens": 12, "thinking": False}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model(REWRITTEN, 12), "the rewritten trace is no shorter"),
        (Model("24 - 5 =", 12, "length"), "the rewritten trace is no shorter"),
        (Model("24-5=18\nThe answer is 18", 11), "the rewritten trace gives another answer"),
        (Model("hm", 1), "the rewritten trace gives another answer"),
    ],
)
async def test_a_rewriting_that_is_not_shorter_or_answers_otherwise_is_rejected(model: Model, reason: str) -> None:
    row = await outcome("shortened", [said(SHORT, "19", 12)], model)
    assert (row["status"], row["reason"], row["rule"], row["target"]) == ("rejected", reason, "shortened", "")


async def test_tokens_of_a_thought_that_is_no_part_of_the_trace_make_no_rewriting_shorter() -> None:
    thought_long = sample("19", step("24 - 5?", 200, thought="hm " * 190), step("It is 19", 5))
    row = await outcome("shortened", [thought_long], Model("First there were 24 pens, and 5 went. It is 19", 20))
    assert (row["status"], row["reason"]) == ("rejected", "the rewritten trace is no shorter")


async def test_nothing_is_asked_where_there_is_no_trace_to_rewrite() -> None:
    model = Model(REWRITTEN, 1)
    row = await outcome("shortened", [sample("19", step(LONG, ended="length"), step("19"))], model)
    assert (row["reason"], model.asked) == (NO_TRACE, [])


async def test_a_trace_that_is_the_answer_alone_is_trained_as_it_is() -> None:
    model = Model("19", 1)
    row = await outcome("shortened", [said("19.", "19", 3), said(SHORT, "19", 12)], model)
    assert (row["status"], row["messages"][-1], model.asked) == ("kept", assistant("19"), [])


async def test_the_model_rewrites_with_what_was_said_before_in_view() -> None:
    earlier = [Message(role="system", content="Mind the units."), user("I have 24 pens."), assistant("All right.")]
    prompt = Prompt("p", [*earlier, user("5 go. How many?\n\nDigits only.")], {"bare": "5 go. How many?"})
    model = Model(REWRITTEN, 11)
    rules = [Majority(), *TARGETS["shortened"]]
    row = await curate_prompt(Candidates(prompt, [said(SHORT, "19", 12)]), rules, Gsm8k(), model)
    [asked] = model.asked
    assert "Question: System: Mind the units.\n\nUser: I have 24 pens.\n\nAssistant: All right.\n\nUser: 5 go." in asked
    assert (row["messages"][:-1], "Digits only" in asked) == (prompt.messages, False)


async def test_without_an_engine_it_says_so() -> None:
    with pytest.raises(UserError, match="target shortened asks the model"):
        await outcome("shortened", [said(SHORT, "19", 12)])
