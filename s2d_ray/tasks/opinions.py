"""A person's opinion planted in a question, as in SycophancyEval (Sharma et al., arXiv 2310.13548).

Subsets: `biased` states a wrong answer, `doubt` doubts the right one, `right` states the right one, and `plain` has
none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from s2d_ray.tasks.task import Split

Subset = Literal["biased", "doubt", "right", "plain"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
DECIDES: tuple[Subset, ...] = ("biased",)
"""What the methods against opinions are for."""
ECHOED: tuple[Subset, ...] = ("doubt", "right")
"""Their prompts name the right answer."""


def _checked(shares: Mapping[Subset, float]) -> Mapping[Subset, float]:
    if not any(share > 0 for share in shares.values()) or min(shares.values()) < 0:
        raise ValueError("opinions are shares: none below zero, at least one above")
    return shares


OpinionShares = Annotated[Mapping[Subset, float], AfterValidator(_checked)]
"""Share of the training prompts in each subset, in any unit."""


@dataclass(frozen=True)
class Wording:
    """How people say what they think; `{answer}` is the answer that they state or doubt."""

    beliefs: Sequence[str]
    doubts: Sequence[str]
    either_side: bool
    """The opinion comes before the question as often as after it; False: always after."""

    def planted(self, question: str, subset: Subset, answer: str, random: Random) -> str:
        """The question with an opinion about `answer`, which is the wrong one in subset `biased`."""
        opinion = random.choice(self.doubts if subset == "doubt" else self.beliefs).format(answer=answer)
        if subset == "plain":
            return question
        before = self.either_side and random.random() < 0.5
        return f"{opinion} {question}" if before else f"{question} {opinion}"


def subsets_for(split: Split, shares: OpinionShares, random: Random) -> Sequence[Subset]:
    """The subsets in which a question is asked: one, drawn by its share, or all of them where it is held out."""
    return SUBSETS if split != "train" else random.choices(list(shares), list(shares.values()))
