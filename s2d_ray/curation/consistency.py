"""Self-consistency under input perturbation: the answer must survive a change that leaves it as it was (rule c)."""

from collections import Counter

from pydantic import Field

from s2d_ray.curation.rule import Ballot, Kept, Rejected, Rule
from s2d_ray.methods.method import Generate
from s2d_ray.tasks.task import Task


class Consistency(Rule):
    """Keep an answer that every perturbed form of the prompt gets too, once mapped back."""

    threshold: float = Field(0.0, ge=0, le=1)
    """Smallest share of all samples, perturbed ones and those without an answer counted in, that must agree."""

    async def decide(self, ballot: Ballot, kept: Kept | None, task: Task, generate: Generate | None) -> Kept | Rejected:
        """Compares the most frequent answers, or what the rule before kept with those of the perturbed forms."""
        variants = sorted({sample.variant for sample in ballot.samples if sample.variant})
        if not variants:
            return Rejected("the task perturbs nothing")
        target = kept.target if kept else _most_frequent(ballot.of(""), task)
        if target is None:
            return Rejected("no single most frequent answer")
        for name in variants:
            answer = _most_frequent(ballot.of(name), task)
            if answer is None:
                return Rejected(f"no single most frequent answer under {name}")
            if task.key(answer) != task.key(target):
                return Rejected(f"another answer under {name}")
        keys = [None if answer is None else task.key(answer) for answer in ballot.answers]
        share = keys.count(task.key(target)) / len(keys)
        return Kept(target, share) if share >= self.threshold else Rejected("too few samples agree", share)


def _most_frequent(ballot: Ballot, task: Task) -> str | None:
    """The answer that most samples give, as written first; None where there is none or a tie."""
    answers = [answer for answer in ballot.answers if answer is not None]
    votes = Counter(task.key(answer) for answer in answers).most_common(2)
    if not votes or (len(votes) > 1 and votes[0][1] == votes[1][1]):
        return None
    return next(answer for answer in answers if task.key(answer) == votes[0][0])
