"""Votes over any answers: who wins, in which spelling, by how much, and what a tie does to curation."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.curation.consistency import Consistency
from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected
from s2d_ray.curation.votes import majority_vote, share_of
from s2d_ray.data.records import Prompt, Sample, user
from tests.curation.parsed_samples import Words

Answers = list[str | None]
# So few different answers that ties and several spellings are the rule.
ANSWERS = st.lists(st.sampled_from(["a", "A", "b", "B", "c", None]), max_size=9)


def winners(answers: Answers) -> list[str]:
    """The keys of all answers that none outdoes, in the order in which they come, by counting each."""
    keys = [answer.casefold() for answer in answers if answer is not None]
    return [key for key in dict.fromkeys(keys) if all(keys.count(key) >= keys.count(other) for other in keys)]


def spellings(answers: Answers, key: str) -> list[str]:
    return [answer for answer in answers if answer is not None and answer.casefold() == key]


@given(ANSWERS)
def test_the_earliest_of_the_most_frequent_wins(answers: Answers) -> None:
    vote, best = majority_vote(answers, str.casefold, tie="first"), winners(answers)
    if not best:
        assert vote is None
        return
    assert vote is not None
    written = spellings(answers, best[0])
    assert (vote.answer, answers[vote.position]) == (written[0], written[0])
    assert vote.position == min(i for i, answer in enumerate(answers) if answer in written)
    assert vote.usual_spelling == max(written, key=written.count), "max takes the earliest of equals"
    assert vote.share == len(written) / len(answers) == share_of(written[0], answers, str.casefold)
    assert vote.tied == (len(best) > 1)


@given(ANSWERS)
def test_a_tie_that_is_rejected_has_no_winner(answers: Answers) -> None:
    first, strict = (majority_vote(answers, str.casefold, tie=tie) for tie in ("first", "reject"))
    assert strict == (first if len(winners(answers)) == 1 else None)


def parsed(own: Answers, swapped: Sequence[str | None] = ()) -> ParsedSamples:
    samples = [Sample(answer or "", "") for answer in own] + [Sample(answer or "", "swapped") for answer in swapped]
    return ParsedSamples(Prompt("p", [user("?")]), samples, [*own, *swapped])


@given(ANSWERS)
async def test_majority_rejects_a_tie_or_takes_the_first_and_keeps_the_usual_spelling(answers: Answers) -> None:
    strict = await Majority(threshold=0, strict=False).decide(parsed(answers), None, Words(), None)
    first = await Majority(threshold=0, strict=False, tie="first").decide(parsed(answers), None, Words(), None)
    best = winners(answers)
    if not best:
        assert strict == first == Rejected("no sample gives an answer")
        return
    written = spellings(answers, best[0])
    share = len(written) / len(answers)
    assert first == Kept(max(written, key=written.count), share)
    assert strict == (first if len(best) == 1 else Rejected("tie between answers", share))


@given(ANSWERS, ANSWERS)
async def test_consistency_rejects_a_tie_on_either_side_and_keeps_the_first_spelling(
    own: Answers, swapped: Answers
) -> None:
    outcome = await Consistency().decide(parsed(own, swapped), None, Words(), None)
    best, other = winners(own), winners(swapped)
    if not swapped:
        assert outcome == Rejected("the task perturbs nothing")
    elif len(best) != 1:
        assert outcome == Rejected("no single most frequent answer")
    elif len(other) != 1:
        assert outcome == Rejected("no single most frequent answer under swapped")
    elif best != other:
        assert outcome == Rejected("another answer under swapped")
    else:
        agreeing = [*spellings(own, best[0]), *spellings(swapped, best[0])]
        assert outcome == Kept(spellings(own, best[0])[0], len(agreeing) / len([*own, *swapped]))
