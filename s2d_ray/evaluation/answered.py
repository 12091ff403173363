"""The prompts that a verdict is about: those that all its arms answered."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from s2d_ray.arms import CORE_ARMS
from s2d_ray.evaluation.metrics import Answer, PromptKey


class Answered(NamedTuple):
    """What is left of answers without the prompts that could not be put to one of the arms."""

    answers: list[Answer]
    prompts: int
    """That all arms answered."""
    asked: int
    """That any arm was asked."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """A sentence where prompts are left out."""
        if self.prompts == self.asked:
            return ()
        return (f"Of {self.asked} prompts, {self.prompts} are counted: of the others an arm gave no answer at all.",)


def answered_by_all(answers: Sequence[Answer], arms: Collection[str] = CORE_ARMS) -> Answered:
    """Of the prompts that all of `arms` answered, as far as these answered any: all arms' answers to them.

    An answer that the task cannot read is one, and wrong; a call that failed, or was lost, is none.
    """
    asked = {answer.key for answer in answers}
    found: dict[str, set[PromptKey]] = {}
    for answer in answers:
        if answer.arm in arms:
            found.setdefault(answer.arm, set()).update([answer.key] if answer.votes else [])
    common = asked.intersection(*found.values())
    return Answered([answer for answer in answers if answer.key in common], len(common), len(asked))
