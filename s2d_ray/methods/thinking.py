"""The model's own reasoning mode as System 2: it thinks, then answers; with the mode off it is System 1.

The engine tells the thought from the text: only the text is returned.
"""

from typing import Literal

from s2d_ray.data.records import Completion, Prompt
from s2d_ray.methods.method import GenerateFunction, MalformedOutput, MethodOptions


class ThinkOptions(MethodOptions):
    """What a recipe may set for this method."""

    thinking: Literal[True] = True
    """It is what this method does."""


async def think(prompt: Prompt, generate: GenerateFunction) -> str:
    """The model's answer to the plain prompt, after a thought."""
    [answer] = await generate(prompt.messages, step="think", thinking=True, final=True)
    if not answer.text.strip():
        raise MalformedOutput(_silent(answer))
    return answer.text


def _silent(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return "the thought ran into the token limit: nothing was said after it (see thinking_tokens)"
    return "nothing was said after the thought"
