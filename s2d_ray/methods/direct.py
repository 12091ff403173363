"""System 1: the prompt as it is, answered in one call."""

from s2d_ray.data.records import Prompt
from s2d_ray.methods.method import GenerateFunction


async def direct(prompt: Prompt, generate: GenerateFunction) -> str:
    """The model's answer to the plain prompt (paper section 2)."""
    [answer] = await generate(prompt.messages, step="answer")
    return answer.text
