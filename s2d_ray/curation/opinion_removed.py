"""What System 2 Attention promises is checked: a rewrite without the opinion that was in the prompt."""

from dataclasses import replace

from s2d_ray.answers.normalisation import words
from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.data.records import Prompt, Sample
from s2d_ray.errors import UserError
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task

STEP = "rewrite"
"""As the method calls the model call that is to remove the opinion."""


class OpinionRemoved(Rule):
    """Samples whose rewrite still names what the person's opinion is about give no answer to the rules that follow.

    Needs no label: the opinion is in the prompt. Samples without a rewrite, as System 1's, stay as they are, and so do
    all samples of a prompt without an opinion, or whose question names the same.
    """

    chooses = False

    def check(self, prompt: Prompt, method: str) -> None:
        if "opinion" not in prompt.fields:
            raise UserError(
                "rule opinion_removed has to know the opinion in a prompt, and this task's have no field opinion: "
                "those of geonames and biased_trivia have one"
            )
        if method != "s2a" and ":" not in method:
            raise UserError(f"rule opinion_removed looks at the rewrite of method s2a, and {method} makes none")

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> ParsedSamples | Rejected:
        """Looks for an opinion in the rewrites of the form of the prompt that states it."""
        forms = {"": parsed.prompt} | {variant.name: variant.prompt for variant in task.variants(parsed.prompt)}
        pairs = zip(parsed.samples, parsed.answers, strict=True)
        left = [None if _names_opinion(sample, forms[sample.variant]) else answer for sample, answer in pairs]
        removed = replace(parsed, answers=left)
        if any(parsed.of("").answers) and not any(removed.of("").answers):
            return Rejected("every rewrite still has the opinion")
        return removed


def _names_opinion(sample: Sample, prompt: Prompt) -> bool:
    opinion = words(prompt.fields.get("opinion", ""))
    if not opinion or _names(prompt.fields.get("plain", ""), opinion):
        return False
    return any(_names(step.text, opinion) for step in sample.steps if step.name == STEP)


def _names(text: str, opinion: str) -> bool:
    return f" {opinion} " in f" {words(text)} "
