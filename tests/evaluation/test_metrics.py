"""Scores of hand-made answers, small enough to be worked out in the head."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import pytest

from s2d_ray.errors import UserError
from s2d_ray.evaluation.metrics import Answer, answer_of, compare, precision, score_arms
from s2d_ray.records import LabelledPrompt, Prompt, Row, Sample, Step, labelled_to_row, user
from s2d_ray.tasks.task import Split, Task


class Echo(Task):
    """The answer is the text; case makes no difference."""

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        yield from ()

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text or None

    def key(self, answer: str) -> str:
        return answer.casefold()

    @property
    def source(self) -> str:
        return "made up"


TASK = Echo()


def answer(prompt_id: str, arm: str, said: str | None, references: Sequence[str] = ("yes",), **more: object) -> Answer:
    plain = Answer(prompt_id, "plain", "", arm, references, said, 10)
    return replace(plain, **more)  # type: ignore[arg-type]


def every_arm(prompt_id: str, said: str | None, **more: object) -> list[Answer]:
    return [answer(prompt_id, arm, said, **more) for arm in ("system1", "system2", "distilled")]  # type: ignore[arg-type]


def answers_row(*samples: Sample, error: str = "") -> Row:
    item = LabelledPrompt(Prompt("p", [user("?")]), ["yes"], "plain", "g")
    return labelled_to_row(item) | {"arm": "distilled", "samples": [asdict(s) for s in samples], "error": error}


def said(text: str, *tokens: int, error: str = "") -> Sample:
    return Sample(text, "", error, tuple(Step("s", text, "stop", 9, 0, n, 0.1) for n in tokens))


def test_the_majority_of_the_samples_is_the_answer_and_every_token_counts() -> None:
    row = answers_row(said("no", 5), said("yes", 3, 4), said("YES", 2))
    found = answer_of(row, TASK)
    assert (found.answer, found.tokens) == ("yes", 14)
    assert (found.key, found.group, found.arm) == (("plain", "p"), "g", "distilled")


def test_equal_votes_go_to_the_earliest_and_malformed_samples_have_none() -> None:
    assert answer_of(answers_row(said("no", 1), said("yes", 1)), TASK).answer == "no"
    malformed = said("no", 6, error="the rewrite is empty")
    found = answer_of(answers_row(malformed, malformed, said("yes", 1)), TASK)
    assert (found.answer, found.tokens) == ("yes", 13)


def test_a_failed_row_has_no_answer_and_no_token_count() -> None:
    found = answer_of(answers_row(error="too long"), TASK)
    assert (found.answer, found.tokens) == (None, None)


def test_failed_prompts_are_wrong_but_do_not_make_answers_look_cheap() -> None:
    answers = [*every_arm("a", "yes"), *every_arm("b", None, tokens=None)]
    score = score_arms(answers, TASK)["distilled"].subsets["plain"]
    assert (score.accuracy, score.n, score.unanswered, score.tokens_per_answer) == (0.5, 2, 0.5, 10)


def test_subsets_and_groups_are_scored_apart_and_together() -> None:
    answers = [
        *every_arm("a", "yes", group="short"),
        *every_arm("b", "no", group="long"),
        *every_arm("c", "no", subset="biased", group="short"),
        *every_arm("d", "YES", subset="biased", group="short", tokens=50),
    ]
    scores = score_arms(answers, TASK)["system1"]
    assert {name: (s.accuracy, s.n) for name, s in scores.subsets.items()} == {
        "plain": (0.5, 2),
        "biased": (0.5, 2),
        "all": (0.5, 4),
    }
    assert {name: (s.accuracy, s.n) for name, s in scores.by_group["short"].items()} == {
        "plain": (1.0, 1),
        "biased": (0.5, 2),
        "all": (2 / 3, 3),
    }
    assert scores.tokens_per_answer == 20
    assert scores.subsets["biased"].tokens_per_answer == 30


def test_without_references_the_score_is_agreement_with_system2() -> None:
    answers = [
        answer("a", "system1", "x", ()),
        answer("a", "system2", "A", ()),
        answer("a", "distilled", "a", ()),
        answer("b", "system1", None, ()),
        answer("b", "system2", None, ()),
        answer("b", "distilled", "", ()),
    ]
    scores = score_arms(answers, TASK)
    assert {arm: s.subsets["all"].accuracy for arm, s in scores.items()} == {
        "system1": 0.0,
        "system2": 0.5,  # It gave no answer to b: nothing agrees with that.
        "distilled": 0.5,
    }
    assert {s.subsets["all"].scored_against for s in scores.values()} == {"system2"}


def test_agreement_and_correctness_are_never_mixed_in_one_figure() -> None:
    answers = [*every_arm("a", "no"), *every_arm("b", "no", references=(), subset="unlabelled")]
    scores = score_arms(answers, TASK)["distilled"].subsets
    assert (scores["unlabelled"].scored_against, scores["unlabelled"].accuracy) == ("system2", 1.0)
    assert (scores["all"].scored_against, scores["all"].accuracy, scores["all"].n) == ("reference", 0.0, 1)


def test_arms_come_in_the_order_of_the_tables_and_the_main_three_are_needed() -> None:
    answers = [answer("a", "distilled_system1", "yes"), *reversed(every_arm("a", "yes"))]
    assert list(score_arms(answers, TASK)) == ["system1", "system2", "distilled", "distilled_system1"]
    with pytest.raises(UserError, match="no answers of system2 in evaluation"):
        score_arms([a for a in answers if a.arm != "system2"], TASK)


def test_arms_are_compared_prompt_by_prompt() -> None:
    answers = [
        *(answer(str(i), "distilled", "yes" if i < 4 else "no") for i in range(6)),
        *(answer(str(i), "system2", "yes" if i < 2 else "no") for i in reversed(range(6))),
        answer("only in one arm", "distilled", "no"),
    ]
    found = compare(answers, "distilled", "system2", TASK)
    assert list(found) == ["plain", "all"]
    assert (found["all"].n, found["all"].first_only, found["all"].second_only) == (6, 2, 0)
    assert found["all"].difference == pytest.approx(2 / 6)


def test_precision_of_targets_stands_beside_that_of_the_raw_answers() -> None:
    decisions = [
        {"prompt_id": "a", "status": "kept", "target": "yes", "votes": ["yes", "yes", "no", ""]},
        {"prompt_id": "b", "status": "rejected", "target": "", "votes": ["no", "no", "no", ""]},
        {"prompt_id": "failed", "status": "failed", "target": "", "votes": []},
        {"prompt_id": "no label", "status": "kept", "target": "no", "votes": ["no"]},
    ]
    found = precision(decisions, {"a": ["Yes"], "b": ["yes"], "failed": ["yes"]}, TASK)
    assert found is not None
    assert (found.curated.value, found.curated.n) == (1.0, 1)
    assert (found.raw.value, found.raw.n) == (0.25, 2)
    assert precision(decisions, {"b": ["yes"]}, TASK) is None
