"""Self-consistency of outputs: the answer that most samples agree on (paper section 3, rule a)."""

from collections import Counter
from typing import Literal

from pydantic import Field

from s2d_ray.curation.rule import Ballot, Kept, Rejected, Rule
from s2d_ray.methods.method import Generate
from s2d_ray.tasks.task import Task


class Majority(Rule):
    """Keep the most frequent answer when its share of all samples is large enough."""

    threshold: float = Field(0.5, ge=0, le=1)
    """Smallest share of the samples, those without an answer counted in."""
    strict: bool = True
    """The share must exceed the threshold, not only reach it."""
    tie: Literal["reject", "first"] = "reject"
    """What to do when several answers are the most frequent: reject, or take the one that came first."""

    async def decide(self, ballot: Ballot, kept: Kept | None, task: Task, generate: Generate | None) -> Kept | Rejected:
        """Votes over the samples that answered the prompt itself."""
        answers = [answer for answer in ballot.of("").answers if answer is not None]
        if not answers:
            return Rejected("no sample gives an answer")
        votes = Counter(task.key(answer) for answer in answers)
        (winner, count), *others = votes.most_common()
        share = count / len(ballot.of("").samples)
        if self.tie == "reject" and others and others[0][1] == count:
            return Rejected("tie between answers", share)
        if share < self.threshold or (self.strict and share == self.threshold):
            return Rejected("no majority", share)
        # The winning class is written as its samples wrote it most often.
        spellings = Counter(answer for answer in answers if task.key(answer) == winner)
        return Kept(spellings.most_common(1)[0][0], share)
