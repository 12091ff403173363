"""Self-consistency under input perturbation: the answer must survive a change that leaves it as it was (rule c)."""

from pydantic import Field

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.curation.votes import majority_vote, share_of
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task


class Consistency(Rule):
    """Keep an answer that every perturbed form of the prompt gets too, once mapped back."""

    threshold: float = Field(0.0, ge=0, le=1)
    """Smallest share of all samples, perturbed ones and those without an answer counted in, that must agree."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Compares the most frequent answers, or what the rule before kept with those of the perturbed forms."""
        variants = sorted({sample.variant for sample in parsed.samples if sample.variant})
        if not variants:
            return Rejected("the task perturbs nothing")
        target = kept.target if kept else _most_frequent(parsed.of(""), task)
        if target is None:
            return Rejected("no single most frequent answer")
        for name in variants:
            answer = _most_frequent(parsed.of(name), task)
            if answer is None:
                return Rejected(f"no single most frequent answer under {name}")
            if task.key(answer) != task.key(target):
                return Rejected(f"another answer under {name}")
        share = share_of(target, parsed.answers, task.key)
        return Kept(target, share) if share >= self.threshold else Rejected("too few samples agree", share)


def _most_frequent(parsed: ParsedSamples, task: Task) -> str | None:
    vote = majority_vote(parsed.answers, task.key, tie="reject")
    return vote.answer if vote else None
