"""Universal self-consistency (Chen et al., arXiv 2311.17311): for free text, the model judges what agrees (rule b).

The model is shown all responses to a prompt and names the one most consistent with the others, or composes it.
"""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.curation.votes import share_of
from s2d_ray.data.records import Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.methods.turns import transcript
from s2d_ray.tasks.task import Task

NAME_TOKENS = 64
"""A name needs few tokens; more only invite an essay that names several."""


class Universal(Rule):
    """Keep the response that the model finds most consistent. Needs an engine."""

    needs_engine: ClassVar[bool] = True

    mode: Literal["pick", "compose"] = "pick"
    """The model names one of the responses, or writes the answer that most of them agree on."""
    max_characters: int = Field(2000, ge=1)
    """Longer responses are neither shown nor kept; those without an answer, as the token limit leaves some, neither."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        """Chooses among the prompt's own samples; of those, only what an earlier rule kept, where one did."""
        if generate is None:
            raise UserError("rule universal asks the model, and this stage has no engine")
        own = parsed.of("")
        shown = self._shown(own, kept, task)
        if not shown:
            return Rejected("no complete response within max_characters")
        if len({task.key(answer) for answer in shown}) == 1:
            target: str | None = shown[0]
        elif self.mode == "pick":
            target = await _picked(parsed.prompt, shown, generate)
        else:
            target = await _composed(parsed.prompt, shown, generate, task)
        if target is None:
            return Rejected("the model names no response" if self.mode == "pick" else "the model composes no answer")
        if len(target) > self.max_characters:
            return Rejected("the composed answer exceeds max_characters")
        return Kept(target, share_of(target, own.answers, task.key))

    def _shown(self, own: ParsedSamples, kept: Kept | None, task: Task) -> list[str]:
        shown = []
        for answer in own.answers:
            if answer is None or len(answer) > self.max_characters:
                continue
            if kept is None or task.key(answer) == task.key(kept.target):
                shown.append(answer)
        return shown


async def _picked(prompt: Prompt, shown: Sequence[str], generate: GenerateFunction) -> str | None:
    [reply] = await generate([user(_ask(PICK, prompt, shown))], step="universal", max_tokens=NAME_TOKENS)
    number = named_response(reply.text, len(shown))
    return None if number is None else shown[number - 1]


async def _composed(prompt: Prompt, shown: Sequence[str], generate: GenerateFunction, task: Task) -> str | None:
    [reply] = await generate([user(_ask(COMPOSE, prompt, shown))], step="universal")
    return None if reply.finish_reason == "length" else task.parse(reply.text, prompt)


def named_response(text: str, count: int) -> int | None:
    """The one response number that a text names; None for none, several, or one that does not exist."""
    alone = re.fullmatch(r"\W*(?:response)?\W*(\d+)\W*", text, re.IGNORECASE)
    chosen = re.findall(r"most consistent (?:response )?is\W*(?:response)?\W*(\d+)", text, re.IGNORECASE)
    named = {alone[1]} if alone else set(chosen or re.findall(r"\bresponse\W{0,3}(\d+)", text, re.IGNORECASE))
    numbers = {int(number) for number in named}
    return numbers.pop() if len(numbers) == 1 and max(numbers) in range(1, count + 1) else None


def _ask(wording: str, prompt: Prompt, shown: Sequence[str]) -> str:
    responses = "\n\n".join(f"Response {number}: {answer}" for number, answer in enumerate(shown, start=1))
    return wording.format(prompt=transcript(prompt.messages), responses=responses)


PICK = (
    "Here are several responses to one prompt.\n\nPrompt: {prompt}\n\n{responses}\n\n"
    "Which response agrees best with what the majority of the responses say? "
    'Reply only with its number, in the form "The most consistent response is Response N".'
)
COMPOSE = (
    "Here are several responses to one prompt.\n\nPrompt: {prompt}\n\n{responses}\n\n"
    "Write one response to the prompt that says what the majority of these responses say, and nothing that only "
    "a few of them say. Write the response only."
)
