"""What the verdict is decided on: which prompts, and against which arm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.errors import UserError
from s2d_ray.evaluation.metrics import Answer, SampledAnswer, score_arms
from s2d_ray.evaluation.verdict import OPEN, Verdict
from s2d_ray.recipes.evaluate import Evaluate
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.figures import conclude, conclude_by_subset, whose_consistency
from s2d_ray.tasks.corpus import held_out
from tests.report.toy_run import Toy, recipe, report_of, write_run

TASK = Toy()
TOKENS = {"base": 20, "teacher": 30, "student": 3}
PROMPTS = 400


class Opinions(Toy):
    """What the method is for is `biased`; in `right` the prompt says the answer."""

    @property
    def decides(self) -> Sequence[str]:
        return ("biased",)

    @property
    def echoed(self) -> Sequence[str]:
        return ("right",)


def answers(subset: str = "plain", /, **right: int) -> list[Answer]:
    """Arms that are right on so many of 400 prompts of a subset, the better one wherever the worse one is."""
    return [
        Answer(f"{subset} {i}", subset, "", arm, ["yes"], said, TOKENS.get(arm, 30), [SampledAnswer(said, 1)])
        for arm, share in right.items()
        for i in range(PROMPTS)
        for said in ["yes" if i < share else "no"]
    ]


def verdict(found: Sequence[Answer], task: Toy = TASK, **settings: Any) -> str:
    return conclude(found, task, Evaluate(**settings), None).verdict


def by_subset_of(found: Sequence[Answer]) -> dict[str, Verdict]:
    return conclude_by_subset(found, lambda part: conclude(part, TASK, Evaluate(), None))


BIASED = answers("biased", base=40, teacher=220, student=225)
RIGHT = answers("right", base=380, teacher=230, student=230)
PLAIN = answers("plain", base=240, teacher=240, student=240)


def test_the_subsets_that_the_method_is_for_decide_and_not_their_mean_with_others() -> None:
    worse = answers("biased", base=40, teacher=220, student=120)
    others = [answers(name, base=200, teacher=200, student=240) for name in ("plain", "right")]
    found = [*worse, *others[0], *others[1]]
    assert verdict(found) == "distils", "if all prompts decide"
    assert verdict(found, Opinions()) == verdict(found, decides=["biased"]) == "partly"
    assert verdict(found, Opinions(), decides=[]) == "distils"
    by_subset = {name: one.verdict for name, one in by_subset_of(found).items()}
    assert by_subset == {"all": "distils", "biased": "partly", "plain": "distils", "right": "distils"}


def test_what_the_prompt_says_itself_is_held_against_system_2_and_all_else_against_system_1() -> None:
    assert verdict([*BIASED, *RIGHT, *PLAIN], Opinions()) == "distils"
    lost = answers("plain", base=240, teacher=180, student=180)
    found = conclude([*BIASED, *RIGHT, *lost], Opinions(), Evaluate(), None)
    assert found.verdict == "partly"
    assert "gets worse on plain (\N{MINUS SIGN}15.0 points)" in found.reason
    unlike_system_2 = answers("right", base=380, teacher=300, student=230)
    assert verdict([*BIASED, *unlike_system_2, *PLAIN], Opinions()) == "partly"


class YesOrNo(Toy):
    """Every right answer is yes."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("yes", "no")


def test_a_student_that_may_as_well_always_say_the_same_does_not_replace_system_2() -> None:
    found = answers(base=40, teacher=360, student=360)
    assert verdict(found) == "distils", "where answers are not of few kinds"
    of_few = conclude(found, YesOrNo(), Evaluate(), None)
    assert of_few.verdict == "partly"
    assert "is not better than always answering “yes” (100.0%)" in of_few.reason
    half_no = [replace(a, references=["no"]) if int(a.prompt_id.split()[1]) >= 200 else a for a in found]
    skilled = [replace(a, answer=a.references[0]) if a.arm != "base" else a for a in half_no]
    assert verdict(skilled, YesOrNo()) == "distils"


def test_subsets_that_there_are_not_cannot_decide() -> None:
    deciding = recipe(evaluate={"decides": ["biased", "plain"]})
    with pytest.raises(UserError, match=r"decides names biased; the test prompts have the subsets doubt, plain, right"):
        held_out(deciding, TASK)


def flipping(**shares: int) -> list[Answer]:
    """Arms that answer so many of 400 prompts otherwise in their mirrored form, all of them right."""
    right: Mapping[str, int] = {"base": 100, "teacher": 400, "student": 400, "teacher_bsm": 400}
    return [
        Answer(a.prompt_id, a.subset, "", a.arm, a.references, a.answer, a.tokens, a.votes, {"mirror": mirrored})
        for arm, share in shares.items()
        for i, a in enumerate(answers(**{arm: right[arm]}))
        for mirrored in ["other" if i < share else a.answer]
    ]


def test_a_judge_of_both_orders_cannot_but_be_consistent_so_that_of_one_order_counts() -> None:
    found = flipping(base=300, teacher=0, student=200, teacher_bsm=220)
    both = recipe(method={"name": "bsm", "prompts": "few_shot"}, evaluate={"method": {"both_orders": True}})
    arms = score_arms(found, TASK)
    assert whose_consistency(both, arms) == "teacher_bsm"
    assert whose_consistency(recipe(), arms) == "teacher"
    settings = Recipe.model_validate(both.model_dump()).evaluate
    assert conclude(found, TASK, settings, None, as_consistent_as="teacher").verdict == "partly"
    assert conclude(found, TASK, settings, None, as_consistent_as="teacher_bsm").verdict == "distils"


def test_a_further_round_is_decided_on_the_subsets_that_decide(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", TASK)
    measured = {}
    for decides in ([], ["plain"]):
        made = report_of(recipe(rounds=2, evaluate={"decides": decides}), TASK, run)
        measured[len(decides)] = made["validation"]["n"]
    assert measured == {0: 120, 1: 40}
    assert report_of(recipe(), TASK, run)["validation"] is None, "one round is wanted"


def failed(found: Sequence[Answer], arm: str, number: int) -> list[Answer]:
    """The same, where so many calls of an arm failed: its last ones."""
    return [
        replace(a, answer=None, tokens=None, votes=[])
        if a.arm == arm and int(a.prompt_id.split()[1]) >= PROMPTS - number
        else a
        for a in found
    ]


def lost(found: Sequence[Answer], arm: str, number: int) -> list[Answer]:
    """The same without so many rows of an arm."""
    return [a for a in found if a.arm != arm or int(a.prompt_id.split()[1]) < PROMPTS - number]


@pytest.mark.parametrize("spoil", [failed, lost])
@pytest.mark.parametrize("arm", ["base", "teacher", "student"])
def test_a_verdict_is_on_what_all_arms_answered_and_says_how_much_that_was(
    spoil: Callable[[Sequence[Answer], str, int], list[Answer]], arm: str
) -> None:
    found = answers(base=40, teacher=220, student=225)
    assert conclude(found, TASK, Evaluate(), None).caveats == ()
    few = conclude(spoil(found, arm, 100), TASK, Evaluate(), None)
    assert few.verdict == "distils"
    assert "on 300 prompts" in few.reason
    assert few.caveats == ("Of 400 prompts, 300 are counted: of the others an arm gave no answer at all.",)
    assert conclude(spoil(found, arm, 100), TASK, Evaluate(), "Nothing was kept.").caveats[-1] == few.caveats[0]


def test_where_an_arm_answered_nothing_nothing_is_concluded() -> None:
    none = conclude(failed(answers(base=40, teacher=220, student=225), "student", PROMPTS), TASK, Evaluate(), None)
    assert (none.verdict, none.reason) == (OPEN, "No prompt was answered by all arms.")
    # An answer that cannot be read is one.
    unread = [replace(a, answer=None) if a.arm == "student" else a for a in answers(base=40, teacher=220, student=225)]
    assert verdict(unread) == "does not distil: keep System 2"
