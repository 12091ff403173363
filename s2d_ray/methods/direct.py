"""System 1: the prompt as it is, answered in one call."""

from s2d_ray.data.records import Message, Prompt, assistant, user
from s2d_ray.methods.method import GenerateFunction, MethodOptions, PlainExamples


class DirectOptions(MethodOptions):
    """What a recipe may set for this method."""

    examples_of: str | None = None
    """Show the worked examples of this System 2 method's prompt set first, without the work between."""


async def direct(prompt: Prompt, generate: GenerateFunction, examples: PlainExamples = ()) -> str:
    """The model's answer to the plain prompt (paper section 2), which may come after others with their answers."""
    [answer] = await generate(_after(examples, prompt), step="answer", final=True)
    return answer.text


def _after(examples: PlainExamples, prompt: Prompt) -> list[Message]:
    """The prompt's messages, the examples as turns before them and after what the system says."""
    # What a task adds to each question, such as how to answer it, it is to be asked with here too.
    bare = prompt.fields.get("bare", "")
    shown: list[Message] = []
    for asked, answer in examples:
        shown += [user(prompt.text.replace(bare, asked, 1) if bare else asked), assistant(answer)]
    said = sum(message["role"] == "system" for message in prompt.messages)
    return [*prompt.messages[:said], *shown, *prompt.messages[said:]]
