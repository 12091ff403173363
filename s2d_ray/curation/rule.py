"""What a curation rule is: it sees all candidates of one prompt, and keeps a target or rejects with a reason.

Rules never see a reference; the task they are given can parse and compare answers, not score them.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2d_ray.curation.samples import parse_sample, ran_out
from s2d_ray.data.records import Candidates, Prompt, Row, Sample, assistant, prompt_to_row, text_given
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.recipes.strict import Strict
from s2d_ray.tasks.task import Task

BLANK: Row = {"target": "", "rule": "", "vote_share": None, "votes": [], "calls": []}
"""Of schema `DECISIONS`, where nothing is known."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A target for the prompt, and what speaks for it."""

    target: str
    vote_share: float | None = None
    """Share of the samples that gave this answer, where the rule voted."""
    trained: str | None = None
    """The text that the model learns, which ends in the target; None: the target itself."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why the prompt is left out."""

    reason: str
    vote_share: float | None = None


@dataclass(frozen=True)
class ParsedSamples:
    """The samples of one prompt, with the answer that each of them gives."""

    prompt: Prompt
    samples: Sequence[Sample]
    answers: Sequence[str | None]
    """Per sample, as the task parses it; None where it gives none."""

    def of(self, variant: str) -> "ParsedSamples":
        """Those that answered one variant of the prompt; `""` is the prompt itself."""
        chosen = [i for i, sample in enumerate(self.samples) if sample.variant == variant]
        return ParsedSamples(self.prompt, [self.samples[i] for i in chosen], [self.answers[i] for i in chosen])


class Rule(Strict, ABC):
    """One rule; its fields are the options that a recipe may set."""

    needs_engine: ClassVar[bool] = False
    """Whether `decide` asks the model; it gets `generate` then, and None otherwise."""
    chooses: ClassVar[bool] = True
    """Whether `decide` keeps a target; where not, a rule that does has to follow."""
    trains: ClassVar[str] = ""
    """What `decide` makes the trained text, for the data card; empty where it leaves that to others."""

    @property
    def name(self) -> str:
        """The class's name as recipes write names."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    def check(self, prompt: Prompt, method: str) -> None:
        """Raises UserError where the rule cannot work on prompts like this one of the task, or with that method."""

    @abstractmethod
    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected | ParsedSamples:
        """Keep or reject one prompt. `kept` is what the rules before this one kept, None where they kept nothing.

        A rule may also leave it to those that follow, and give them other samples, or fewer answers.
        """


def parse_samples(candidates: Candidates, task: Task) -> ParsedSamples:
    """The candidates with their answers parsed."""
    variants = {v.name: v for v in task.variants(candidates.prompt)}
    answers: list[str | None] = []
    for sample in candidates.samples:
        variant = variants.get(sample.variant)
        answer = parse_sample(sample, variant.prompt if variant else candidates.prompt, task)
        answers.append(variant.map_back(answer) if variant and answer is not None else answer)
    return ParsedSamples(candidates.prompt, candidates.samples, answers)


def _cut(own: ParsedSamples) -> str:
    """The reason that is behind whatever reason a rule gives; empty where it is not so."""
    all_cut = bool(own.samples) and all(map(ran_out, own.samples)) and not any(own.answers)
    return "every sample was cut by the token limit" if all_cut else ""


def failed_prompt(prompt: Prompt, reason: str) -> Row:
    """The outcome of a prompt at which generation or curation failed."""
    return prompt_to_row(prompt) | BLANK | {"status": "failed", "reason": reason}


async def curate_prompt(
    candidates: Candidates, rules: Sequence[Rule], task: Task, generate: GenerateFunction | None
) -> Row:
    """The one outcome of a prompt: a row of schema `DECISIONS` with status kept, rejected or failed.

    The messages of a kept row end with what is trained, as SFT trainers read them: the target, or a text that ends in
    it.
    """
    if candidates.error:
        return failed_prompt(candidates.prompt, candidates.error)
    row = prompt_to_row(candidates.prompt)
    parsed, kept = parse_samples(candidates, task), None
    evidence = BLANK | {"votes": [answer or "" for answer in parsed.answers]}
    for rule in rules:
        outcome = await rule.decide(parsed, kept, task, generate)
        if isinstance(outcome, ParsedSamples):
            parsed = outcome
            continue
        text_given(outcome.reason if isinstance(outcome, Rejected) else outcome.target, f"rule {rule.name}")
        evidence |= {"rule": rule.name}
        if outcome.vote_share is not None:
            evidence |= {"vote_share": outcome.vote_share}
        if isinstance(outcome, Rejected):
            return row | evidence | {"status": "rejected", "reason": _cut(parsed.of("")) or outcome.reason}
        kept = outcome
    assert kept is not None
    row["messages"] = [*row["messages"], assistant(kept.target if kept.trained is None else kept.trained)]
    return row | evidence | {"status": "kept", "target": kept.target, "reason": ""}
