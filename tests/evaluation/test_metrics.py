"""Scores of hand-made answers, small enough to be worked out in the head."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import pytest

from s2d_ray.arms import further_arm, in_order, label
from s2d_ray.data.records import LabelledPrompt, Prompt, Row, Sample, Step, labelled_to_row, user
from s2d_ray.errors import UserError
from s2d_ray.evaluation.metrics import (
    Answer,
    answer_of,
    changes,
    compare,
    majorities,
    of_first,
    precision,
    score_arms,
)
from s2d_ray.evaluation.statistics import share
from s2d_ray.tasks.geonames import Geonames
from s2d_ray.tasks.task import Split, Task
from tests.curation.parsed_samples import Words


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
    return [answer(prompt_id, arm, said, **more) for arm in ("base", "teacher", "student")]  # type: ignore[arg-type]


def answers_row(*samples: Sample, error: str = "") -> Row:
    item = LabelledPrompt(Prompt("p", [user("?")]), ["yes"], "plain", "g")
    return labelled_to_row(item) | {"arm": "student", "samples": [asdict(s) for s in samples], "error": error}


def said(text: str, *tokens: int, error: str = "", variant: str = "") -> Sample:
    return Sample(text, variant, error, tuple(Step("s", text, "stop", 9, 0, n, 0.1) for n in tokens))


def test_the_majority_of_the_samples_is_the_answer_and_every_token_counts() -> None:
    row = answers_row(said("no", 5), said("yes", 3, 4), said("YES", 2))
    found = answer_of(row, TASK)
    assert (found.answer, found.tokens) == ("yes", 14)
    assert (found.key, found.group, found.arm) == (("plain", "p"), "g", "student")


def test_equal_votes_go_to_the_earliest_and_malformed_samples_have_none() -> None:
    assert answer_of(answers_row(said("no", 1), said("yes", 1)), TASK).answer == "no"
    malformed = said("no", 6, error="the rewrite is empty")
    found = answer_of(answers_row(malformed, malformed, said("yes", 1)), TASK)
    assert (found.answer, found.tokens) == ("yes", 13)


def test_a_failed_row_has_no_answer_and_no_token_count() -> None:
    found = answer_of(answers_row(error="too long"), TASK)
    assert (found.answer, found.tokens) == (None, None)


def test_a_perturbed_form_neither_votes_nor_costs() -> None:
    swapped = [said("it is right", 50, variant="swapped")] * 3
    found = answer_of(answers_row(said("it is left", 5), *swapped), Words())
    assert (found.answer, found.tokens) == ("left", 5)
    assert found.variants == {"swapped": "left"}, "mapped back"


@pytest.mark.parametrize(
    ("own", "swapped", "changed"),
    [
        ("it is left", "it is right", False),
        ("it is Middle", "it is middle", False),
        ("it is left", "it is left", True),
        ("it is left", "who knows", True),
        ("who knows", "it is left", True),
        ("who knows", "who knows", None),
    ],
)
def test_an_answer_is_consistent_where_it_means_the_same_in_every_form(
    own: str, swapped: str, changed: bool | None
) -> None:
    row = answers_row(said(own, 1), said(swapped, 1, variant="swapped"))
    assert changes([answer_of(row, Words())], Words()) is changed


def test_one_of_several_forms_is_enough_to_be_inconsistent() -> None:
    assert changes([answer("a", "student", "yes", variants={"reverse": "Yes", "plain": "no"})], TASK) is True


def test_the_inconsistent_share_counts_prompts_that_have_a_perturbed_form_and_an_answer() -> None:
    answers = [
        *every_arm("a", "yes", variants={"swap": "yes"}),
        *every_arm("b", "yes", variants={"swap": "no"}),
        *every_arm("c", "no", variants={"swap": None}),
        *every_arm("d", None, variants={"swap": None}),
        *every_arm("e", "yes", subset="as it is"),
    ]
    scores = score_arms(answers, TASK)["student"].subsets
    assert scores["plain"].inconsistent == scores["all"].inconsistent == share([True, True, False])
    assert scores["as it is"].inconsistent is None


def test_the_inconsistent_share_counts_questions_that_several_subsets_ask() -> None:
    answers = [
        *every_arm("a1", "yes", question="a", subset="biased"),
        *every_arm("a2", "Yes", question="a"),
        *every_arm("b1", "yes", question="b", subset="biased", variants={"other": "yes"}),
        *every_arm("b2", "no", question="b"),
        *every_arm("c1", None, question="c", subset="biased"),
        *every_arm("c2", "no", question="c"),
        *every_arm("d1", None, question="d", subset="biased"),
        *every_arm("d2", None, question="d"),
        *every_arm("e1", "yes", question="e", subset="biased"),
        # Without a name of its question a prompt has no other form, though its id is that of another one.
        *every_arm("f", "yes", subset="biased"),
        *every_arm("f", "no"),
    ]
    scores = score_arms(answers, TASK)["student"].subsets
    assert scores["all"].inconsistent == share([True, True, False])
    assert (scores["biased"].inconsistent, scores["plain"].inconsistent) == (share([False]), None)


def test_an_answer_knows_the_question_that_its_prompt_puts() -> None:
    task = Geonames.model_validate({"kinds": ["state"]})
    items = list(task.items("test", 0))
    rows = [labelled_to_row(item) | {"arm": "base", "samples": [], "error": ""} for item in items]
    questions = Counter(answer_of(row, task).question for row in rows)
    assert set(questions.values()) == {4}
    assert {item.prompt.text for item in items if item.subset == "plain"} == questions.keys()
    assert answer_of(answers_row(said("it is left", 1)), Words()).question == ""


def test_the_first_samples_are_an_answer_of_their_own() -> None:
    whole = answer_of(answers_row(said("no", 5), said("yes", 3, 4), said("YES", 2)), TASK)
    assert [(of_first(whole, k, TASK).answer, of_first(whole, k, TASK).tokens) for k in (1, 2, 3)] == [
        ("no", 5),
        ("no", 12),
        ("yes", 14),
    ]
    failed = answer_of(answers_row(error="too long"), TASK)
    assert of_first(failed, 1, TASK) == failed


def test_majorities_are_of_the_first_samples_and_pay_for_all_of_them() -> None:
    samples = [said("no", 5), *[said("yes", 1)] * 3, *[said("no", 2)] * 6]
    whole = answer_of(answers_row(*samples), TASK)
    answers = [replace(whole, arm=arm) for arm in ("base", "teacher", "student")]
    found = {k: arms["student"].subsets["all"] for k, arms in majorities(answers, 10, TASK).items()}
    assert {k: (s.accuracy, s.n, s.tokens_per_answer) for k, s in found.items()} == {
        1: (0, 1, 5),
        5: (1, 1, 10),
        10: (0, 1, 20),
    }
    assert list(majorities(answers, 9, TASK)) == [1, 5]
    assert list(majorities(answers, 1, TASK)) == [1]


def test_failed_prompts_are_wrong_but_do_not_make_answers_look_cheap() -> None:
    answers = [*every_arm("a", "yes"), *every_arm("b", None, tokens=None)]
    score = score_arms(answers, TASK)["student"].subsets["plain"]
    assert (score.accuracy, score.n, score.unanswered, score.tokens_per_answer) == (0.5, 2, 0.5, 10)


def test_subsets_and_groups_are_scored_apart_and_together() -> None:
    answers = [
        *every_arm("a", "yes", group="short"),
        *every_arm("b", "no", group="long"),
        *every_arm("c", "no", subset="biased", group="short"),
        *every_arm("d", "YES", subset="biased", group="short", tokens=50),
    ]
    scores = score_arms(answers, TASK)["base"]
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


def test_without_references_the_score_is_agreement_with_the_teacher() -> None:
    answers = [
        answer("a", "base", "x", ()),
        answer("a", "teacher", "A", ()),
        answer("a", "student", "a", ()),
        answer("b", "base", None, ()),
        answer("b", "teacher", None, ()),
        answer("b", "student", "", ()),
    ]
    scores = score_arms(answers, TASK)
    assert {arm: s.subsets["all"].accuracy for arm, s in scores.items()} == {
        "base": 0.0,
        "teacher": 0.5,  # It gave no answer to b: nothing agrees with that.
        "student": 0.5,
    }
    assert {s.subsets["all"].scored_against for s in scores.values()} == {"teacher"}


def test_agreement_and_correctness_are_never_mixed_in_one_figure() -> None:
    answers = [*every_arm("a", "no"), *every_arm("b", "no", references=(), subset="unlabelled")]
    scores = score_arms(answers, TASK)["student"].subsets
    assert (scores["unlabelled"].scored_against, scores["unlabelled"].accuracy) == ("teacher", 1.0)
    assert (scores["all"].scored_against, scores["all"].accuracy, scores["all"].n) == ("reference", 0.0, 1)


def test_arms_come_in_the_order_of_the_tables_and_the_main_three_are_needed() -> None:
    answers = [answer("a", "student_of_base", "yes"), *reversed(every_arm("a", "yes"))]
    assert list(score_arms(answers, TASK)) == ["base", "teacher", "student", "student_of_base"]
    with pytest.raises(UserError, match="no answers of teacher in evaluation"):
        score_arms([a for a in answers if a.arm != "teacher"], TASK)


def test_an_arm_that_was_not_trained_need_not_be_there() -> None:
    answers = [a for a in every_arm("a", "yes") if a.arm != "student"]
    assert list(score_arms(answers, TASK, needed=["base", "teacher"])) == ["base", "teacher"]
    with pytest.raises(UserError, match="no answers of student in evaluation"):
        score_arms(answers, TASK)


def test_further_methods_stand_beside_the_distilled_one_under_their_names() -> None:
    rar, own = further_arm("rar1"), further_arm("my_module:ask")
    arms = in_order(["student_uncurated", rar, "student", own, "teacher", "base", "student_of_base"])
    assert arms[:4] == ["base", "teacher", own, rar]
    assert arms[4:] == ["student", "student_of_base", "student_uncurated"]
    assert (label(rar), label(own)) == ("System 2 (rar1)", "System 2 (my_module:ask)")
    answers = [*every_arm("a", "yes"), answer("a", rar, "no")]
    scores = score_arms(answers, TASK)
    assert (list(scores), scores[rar].subsets["all"].accuracy) == (["base", "teacher", rar, "student"], 0)


def test_arms_are_compared_prompt_by_prompt() -> None:
    answers = [
        *(answer(str(i), "student", "yes" if i < 4 else "no") for i in range(6)),
        *(answer(str(i), "teacher", "yes" if i < 2 else "no") for i in reversed(range(6))),
        answer("only in one arm", "student", "no"),
    ]
    found = compare(answers, "student", "teacher", TASK)
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
    found = precision(decisions, {"a": ["Yes"], "b": ["yes"], "failed": ["yes"]}, {"a": "one", "b": "one"}, TASK)
    assert found is not None
    assert (found.curated.value, found.curated.n) == (1.0, 1)
    assert (found.raw.value, found.raw.n) == (0.25, 2)
    assert (found.raw.clusters, found.curated.clusters) == (1, 1)
    assert precision(decisions, {"b": ["yes"]}, {"b": "b"}, TASK) is None


def test_forms_of_a_question_that_go_together_count_once() -> None:
    answers = [
        one
        for n in range(40)
        for form in ("plain", "biased", "doubt")
        for one in every_arm(f"{n}-{form}", "yes" if n % 2 else "no", subset=form, cluster=f"about {n}")
    ]
    scores = score_arms(answers, TASK)["student"].subsets
    assert (scores["all"].n, scores["all"].clusters, scores["plain"].clusters) == (120, 40, 40)
    assert scores["all"].low < scores["plain"].low == share([n % 2 == 0 for n in range(40)]).low
    apart = [replace(one, cluster="") for one in answers]
    assert score_arms(apart, TASK)["student"].subsets["all"].clusters == 120
    assert score_arms(apart, TASK)["student"].subsets["all"].low > scores["plain"].low


def test_arms_are_compared_by_clusters() -> None:
    answers = [
        answer(f"{n}-{form}", arm, "yes" if arm == "student" or n % 2 else "no", subset=form, cluster=f"about {n}")
        for n in range(10)
        for form in ("plain", "biased")
        for arm in ("student", "teacher")
    ]
    found = compare(answers, "student", "teacher", TASK)
    assert (found["all"].n, found["all"].clusters, found["all"].first_only) == (20, 10, 10)
    assert found["all"].p_value == found["plain"].p_value == pytest.approx(2 / 2**5)


def test_the_cluster_of_an_answer_is_that_of_its_prompt() -> None:
    row = answers_row(said("yes", 1))
    assert answer_of(row, TASK).unit == "p"
    assert answer_of(row | {"cluster": "Lyon"}, TASK).unit == "Lyon"
    del row["cluster"]
    assert answer_of(row, TASK).unit == "p", "of a run before there were clusters"
