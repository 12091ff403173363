"""What is trained where no answer at once is possible: less reasoning than System 2's, in words of the model itself.

A trace is what a method's calls wrote, in their order, with the thought of the call that answers: all of it becomes
plain text, since System 1 is asked without thinking. The answer stays what the rules before have kept.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.data.records import Message, Prompt, Sample, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.methods.turns import transcript
from s2d_ray.tasks.task import Task

NO_TRACE = Rejected("no whole trace ends in the answer")
NOT_SHORTER = Rejected("the rewritten trace is no shorter")
OTHER_ANSWER = Rejected("the rewritten trace gives another answer")


@dataclass(frozen=True, slots=True)
class Trace:
    """Of one sample."""

    text: str
    """Its last words are the answer."""
    tokens: int
    """Generated for it, all thoughts included."""


class Shortest(Rule):
    """Train the shortest trace of the samples that give the answer."""

    trains: ClassVar[str] = "the shortest of System 2's traces that come to the answer on which it agreed"

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Chooses by generated tokens among the prompt's own samples, the first of equals."""
        assert kept is not None
        shortest = shortest_trace(parsed, kept.target, task)
        return Kept(kept.target, trained=shortest.text) if shortest else NO_TRACE


class Shortened(Rule):
    """Train the shortest trace as the model rewrites it in fewer words. Needs an engine."""

    needs_engine: ClassVar[bool] = True
    trains: ClassVar[str] = "System 2's shortest trace to the answer on which it agreed, rewritten by it in fewer words"

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Asks once, unless the trace is the answer alone: nothing is shorter.

        What has as many tokens as the trace is no shorter, so no more are generated.
        """
        if generate is None:
            raise UserError("target shortened asks the model, and this stage has no engine")
        assert kept is not None
        shortest, prompt = shortest_trace(parsed, kept.target, task), parsed.prompt
        if shortest is None:
            return NO_TRACE
        if shortest.text == kept.target:
            return Kept(kept.target, trained=kept.target)
        # What the task adds for System 1, such as to say no more than the answer, is not asked here.
        asked = [*prompt.messages[:-1], user(prompt.fields.get("bare", prompt.text))]
        ask = SHORTEN.format(question=transcript(asked), trace=shortest.text)
        [reply] = await generate([*SHOWN, user(ask)], step="shorten", max_tokens=shortest.tokens, thinking=False)
        # Of several calls the trace is without some thoughts, whose tokens are counted all the same. A model that
        # always thinks does so here too, and what is learned is no longer by it.
        longer = reply.completion_tokens >= shortest.tokens and not reply.thought
        longer |= len(reply.text.strip()) >= len(shortest.text)
        if reply.finish_reason == "length" or longer:
            return NOT_SHORTER
        same = _gives(reply.text, kept.target, prompt, task)
        text = ending_in(kept.target, reply.text, prompt, task) if same else None
        return OTHER_ANSWER if text is None else Kept(kept.target, trained=text)


def shortest_trace(parsed: ParsedSamples, answer: str, task: Task) -> Trace | None:
    """Of the prompt's own samples that give the answer, by its key; None where none has a whole one that ends in it."""
    own = parsed.of("")
    agreed = [
        sample
        for sample, found in zip(own.samples, own.answers, strict=True)
        if found is not None and task.key(found) == task.key(answer) and _is_whole(sample)
    ]
    for sample in sorted(agreed, key=lambda sample: sample.tokens):
        text = ending_in(answer, written(sample), parsed.prompt, task)
        if text is not None:
            return Trace(text, sample.tokens)
    return None


def written(sample: Sample) -> str:
    """The trace of a sample; a method without a call has its text alone."""
    if not sample.steps:
        return sample.text
    *before, last = sample.steps
    parts = [*(step.text for step in before), last.thought, last.text]
    return "\n\n".join(part.strip() for part in parts if part.strip())


def ending_in(answer: str, text: str, prompt: Prompt, task: Task) -> str | None:
    """The text, with the answer behind it where it does not end in that; None where it then gives another one."""
    text = text.strip()
    ends = re.fullmatch(rf"(.*(?<!\w){re.escape(answer)})[.!\s]*", text, re.DOTALL)
    ended = ends[1] if ends else f"{text}\n\n{answer}"
    return ended if _gives(ended, answer, prompt, task) else None


def _gives(text: str, answer: str, prompt: Prompt, task: Task) -> bool:
    found = task.parse(text, prompt)
    return found is not None and task.key(found) == task.key(answer)


def _is_whole(sample: Sample) -> bool:
    return all(step.finish_reason != "length" for step in sample.steps)


SHORTEN = (
    "Here is a question and how it was worked out.\n\nQuestion: {question}\n\nWorked out: {trace}\n\n"
    "Write down again how it was worked out, in as few words as possible: only the steps that the answer follows from, "
    "as notes and not as sentences. End with the same statement of the answer. Write nothing else."
)
SHOWN: Sequence[Message] = (
    user(
        SHORTEN.format(
            question="Was 1900 a leap year?",
            trace=(
                "A year is a leap year if it can be divided by 4. 1900 can, since 1900 = 4 * 475. But 1900 can be "
                "divided by 100 too, and then it would have to be divisible by 400 as well, which it is not. So 1900 "
                "was not a leap year. The answer is no"
            ),
        )
    ),
    assistant("1900 by 4: yes. By 100: yes. By 400: no. The answer is no"),
)
"""One worked example: small models do not keep to fewer words without."""
