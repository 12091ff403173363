"""A text that the token limit cut gives only what it marked by then, and nothing is trained on a stump."""

from collections.abc import Sequence

import pytest

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Rule, curate_prompt
from s2d_ray.curation.samples import parse_sample, was_cut
from s2d_ray.curation.unfiltered import Unfiltered
from s2d_ray.curation.universal import Universal
from s2d_ray.data.records import Candidates, LabelledPrompt, Prompt, Row, Sample, Step, user
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, Task
from tests.method_runs import ask

FIELDS = {
    "kind": "country",
    "plain": "?",
    "question": "?",
    "response_a": "1",
    "response_b": "2",
    "acts": "",
    "words": "a b",
}
ASKED = Prompt("id", [user("How many?")], FIELDS)
CUT = "every sample was cut by the token limit"


class LastWord(Task):
    """A task of one's own that says nothing about texts that were cut."""

    def items(self, split: Split, seed: int) -> Sequence[LabelledPrompt]:  # type: ignore[override]
        return []

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text.split()[-1].strip(".") if text.split() else None

    @property
    def source(self) -> str:
        return "made up"


def sample(text: str, finish_reason: str = "length", said: str | None = None) -> Sample:
    """A sample whose last call said `said`, the text itself where that is None."""
    steps = [Step("think", "thinking", "stop", 1, 0, 1, 0.0)]
    return Sample(text, steps=[*steps, Step("answer", said or text, finish_reason, 1, 0, 1, 0.0)])


async def curate(task: Task, samples: Sequence[Sample], rule: Rule) -> Row:
    async def generate(*_: object, **__: object) -> list[object]:
        raise AssertionError("nothing is left to ask about")

    return await curate_prompt(Candidates(ASKED, samples), [rule], task, generate)  # type: ignore[arg-type]


STUMPS = {
    "prompts": "Once upon a time there was",
    "biased_trivia": "Emma was written by Jane",
    "gsm8k": "48 / 2 = 24 clips in May. Then she sold",
    "geonames": "Lyon is in France, close to",
    "coin_flip": "Ana flips the coin: tails. Then Bo",
    "judge": "Response A is better in tone, but",
    "last_letter": "r",
    "own": "I think that the",
}


def task_named(name: str) -> Task:
    options = {"path": "p.csv"} if name == "prompts" else {}
    return LastWord() if name == "own" else load_task(Named.model_validate({"name": name} | options))


@pytest.mark.parametrize("rule", [Majority(), Universal(), Unfiltered()], ids=["majority", "universal", "unfiltered"])
@pytest.mark.parametrize("name", STUMPS)
async def test_equal_stumps_are_rejected_with_their_reason(name: str, rule: Rule) -> None:
    row = await curate(task_named(name), [sample(STUMPS[name])] * 5, rule)
    assert (row["status"], row["reason"], row["votes"]) == ("rejected", CUT, [""] * 5)


async def test_methods_that_find_no_answer_in_a_cut_text_give_the_same_reason() -> None:
    made = [await ask("cot", "What?", lambda chat: "and so on " * 99, max_tokens=50) for _ in range(2)]
    assert all("token limit" in one.error for one in made)
    row = await curate(load_task(Named(name="gsm8k")), made, Majority())
    assert row["reason"] == CUT


async def test_some_that_were_cut_have_no_vote() -> None:
    samples = [sample("72", "stop"), sample("7"), sample("The answer is 72. It")]
    row = await curate(load_task(Named(name="gsm8k")), samples, Majority())
    assert (row["target"], row["vote_share"], row["votes"]) == ("72", 2 / 3, ["72", "", "72"])
    row = await curate(load_task(Named(name="gsm8k")), [sample("so"), sample("so", "stop")], Majority())
    assert row["reason"] == "no sample gives an answer"


async def test_the_first_sample_is_no_target_where_it_was_cut() -> None:
    row = await curate(LastWord(), [sample("It is lo"), sample("It is long.", "stop")], Unfiltered())
    assert (row["status"], row["reason"]) == ("rejected", "the first sample was cut by the token limit")


def test_a_task_of_ones_own_gets_the_marked_answer_of_a_cut_text() -> None:
    assert parse_sample(sample("So I say. The answer is Paris. It l"), ASKED, LastWord()) == "Paris"
    assert parse_sample(sample("So I say. The answer is Paris. It l", "stop"), ASKED, LastWord()) == "l"


@pytest.mark.parametrize(
    ("made", "cut"),
    [
        (sample("a stump"), True),
        (sample(" a stump\n", said="a stump"), True),
        (sample("stump", said="The answer: a stump"), True),
        (sample("72", said="Final answer: 72\nThis is beca"), False),
        (sample("A", said="5\n4\nThat is Response A"), False),
        (sample("a text", "stop"), False),
        (Sample("a text"), False),
    ],
)
def test_a_text_was_cut_where_it_is_the_end_of_a_call_that_was(made: Sample, cut: bool) -> None:
    assert was_cut(made) is cut


async def test_a_final_answer_that_was_over_when_the_chain_was_cut_counts() -> None:
    made = await ask("cot", "What?", lambda chat: "Final answer: 7\n" + "and so on " * 99, max_tokens=50)
    assert made.steps[-1].finish_reason == "length"
    assert parse_sample(made, ASKED, load_task(Named(name="gsm8k"))) == "7"


def test_a_sample_that_ended_in_an_error_has_no_answer() -> None:
    assert parse_sample(Sample("The answer is 7.", error="malformed"), ASKED, LastWord()) is None
