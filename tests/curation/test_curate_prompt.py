"""Each prompt has exactly one outcome, with what speaks for it."""

import pyarrow as pa
import pytest

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule, curate_prompt
from s2d_ray.curation.unfiltered import Unfiltered
from s2d_ray.data.records import DECISIONS, Candidates, Row, assistant, prompt_from_row, user
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task
from tests.curation.parsed_samples import Words, candidates, parsed

A, B = "it is a", "it is b"


class Longer(Rule):
    """Keeps what the rule before it kept where that is long enough, in capitals; has no vote."""

    length: int = 2

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        assert kept is not None
        return Kept(kept.target.upper()) if len(kept.target) >= self.length else Rejected("too short")


async def outcome(given: Candidates, *rules: Rule) -> Row:
    row = await curate_prompt(given, rules, Words(), None)
    [stored] = pa.Table.from_pylist([row], schema=DECISIONS).to_pylist()
    assert row.keys() == stored.keys() == set(DECISIONS.names)
    kept: Row = stored
    return kept


async def test_a_kept_prompt_ends_with_its_target() -> None:
    row = await outcome(candidates(A, A, A, B), Majority())
    assert (row["status"], row["target"], row["reason"], row["rule"]) == ("kept", "a", "", "majority")
    assert row["messages"] == [user("Which?"), assistant("a")]
    assert (row["vote_share"], row["votes"]) == (0.75, ["a", "a", "a", "b"])
    assert (row["prompt_id"], row["fields"]) == ("p1", [{"key": "kind", "value": "side"}])


async def test_nothing_of_the_reasoning_is_in_a_kept_row() -> None:
    row = await outcome(candidates("Let me think, a secret. It is a"), Majority())
    assert row["status"] == "kept"
    assert "secret" not in str(row)


async def test_a_rejected_prompt_has_its_reason_and_its_votes_and_no_target() -> None:
    row = await outcome(candidates(A, B, "?", "!"), Majority())
    assert (row["status"], row["target"], row["reason"]) == ("rejected", "", "tie between answers")
    assert (row["rule"], row["vote_share"], row["votes"]) == ("majority", 0.25, ["a", "b", "", ""])
    assert prompt_from_row(row) == candidates().prompt


async def test_a_prompt_that_failed_has_its_error_and_asks_no_rule() -> None:
    row = await outcome(candidates(error="the prompt is empty"), Longer())
    assert (row["status"], row["target"], row["reason"]) == ("failed", "", "the prompt is empty")
    assert (row["rule"], row["vote_share"], row["votes"]) == ("", None, [])
    assert prompt_from_row(row) == candidates().prompt


async def test_rules_follow_each_other_and_the_first_to_reject_decides() -> None:
    long = candidates("it is long", "it is long", "it is b")
    row = await outcome(long, Majority(), Longer())
    assert (row["status"], row["target"], row["rule"]) == ("kept", "LONG", "longer")
    assert row["vote_share"] == pytest.approx(2 / 3), "the vote is evidence for what came of it"
    row = await outcome(long, Majority(), Longer(length=9), Unfiltered())
    assert (row["status"], row["reason"], row["rule"]) == ("rejected", "too short", "longer")
    row = await outcome(candidates(A, B), Majority(), Longer())
    assert (row["status"], row["rule"]) == ("rejected", "majority")


def test_variants_are_read_back_and_errors_give_no_answer() -> None:
    given = parsed("it is left", "!", "?", swapped=["it is left", "it is up", "!"])
    assert given.answers == ["left", None, None, "right", "up", None]
    assert given.of("swapped").answers == ["right", "up", None]
    assert [s.variant for s in given.of("swapped").samples] == ["swapped"] * 3
    assert given.of("").answers == ["left", None, None]


async def test_a_variants_sample_that_ended_in_an_error_but_has_text_gives_no_answer() -> None:
    given = candidates(A)
    errors = [type(s)(s.text, s.variant, "cut off") for s in given.samples]
    row = await outcome(Candidates(given.prompt, errors), Majority())
    assert row["reason"] == "no sample gives an answer"
