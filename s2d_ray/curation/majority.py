"""Self-consistency of outputs: the answer that most samples agree on (paper section 3, rule a)."""

from operator import not_
from typing import Self

from pydantic import Field, model_validator

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.curation.votes import Tie, majority_vote
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task


class Majority(Rule):
    """Keep the most frequent answer when its share of all samples is large enough."""

    threshold: float = Field(0.5, ge=0, le=1)
    """Smallest share of the samples, those without an answer counted in. All must agree with 1 and `strict: false`."""
    strict: bool = True
    """The share must exceed the threshold, not only reach it."""
    perturbed: bool = Field(False, exclude_if=not_)
    """The samples of the prompt's perturbed forms vote too: one sample of each of three forms costs what three of one
    do, and an opinion that one form plants has one vote."""
    tie: Tie = "reject"
    """What to do when several answers are the most frequent: reject, or take the one that came first."""

    @model_validator(mode="after")
    def _can_keep(self) -> Self:
        if self.strict and self.threshold == 1:
            raise ValueError("no share exceeds threshold 1: set strict to false, so that all samples must agree")
        return self

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Votes over the samples that answered the prompt itself, or all."""
        voters = parsed if self.perturbed else parsed.of("")
        vote = majority_vote(voters.answers, task.key, tie="first")
        if vote is None:
            return Rejected("no sample gives an answer")
        if vote.tied and self.tie == "reject":
            return Rejected("tie between answers", vote.share)
        if vote.share < self.threshold or (self.strict and vote.share == self.threshold):
            return Rejected("no majority", vote.share)
        return Kept(vote.usual_spelling, vote.share)
