"""No curation: the first sample's answer, for the control that shows what curation is worth."""

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.curation.samples import ran_out
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task


class Unfiltered(Rule):
    """Keep the first sample's answer, whatever the others say."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Rejects only where there is no answer: a text that the task cannot read teaches nothing that it can."""
        own = parsed.of("")
        if own.answers[0] is not None:
            return Kept(own.answers[0])
        cut = ran_out(own.samples[0])
        return Rejected("the first sample was cut by the token limit" if cut else "the first sample gives no answer")
