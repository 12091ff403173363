"""No curation: the first sample as it came, for the control that shows what curation is worth."""

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task


class Unfiltered(Rule):
    """Keep the first sample's answer, or its whole text where no answer can be read off it."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Rejects only where there is no text at all, since nothing can be trained on it."""
        own = parsed.of("")
        target = own.answers[0] or own.samples[0].text.strip()
        return Kept(target) if target else Rejected("the first sample has no text")
