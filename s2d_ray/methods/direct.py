"""System 1: the prompt as it is, answered in one call."""

from s2d_ray.data.records import Prompt
from s2d_ray.methods.method import GenerateFunction, MethodOptions, PlainExamples
from s2d_ray.methods.turns import before


class DirectOptions(MethodOptions):
    """What a recipe may set for this method."""

    examples_of: str | None = None
    """Show the worked examples of this System 2 method's prompt set first, without the work between."""


async def direct(prompt: Prompt, generate: GenerateFunction, examples: PlainExamples = ()) -> str:
    """The model's answer to the plain prompt (paper section 2), which may come after others with their answers."""
    # What a task adds to each question, such as how to answer it, it is to be asked with here too.
    bare = prompt.fields.get("bare", "")
    shown = [(prompt.text.replace(bare, asked, 1) if bare else asked, answer) for asked, answer in examples]
    [answer] = await generate([*before(prompt, shown), prompt.messages[-1]], step="answer", final=True)
    return answer.text
