"""Where a method's own words stand in a conversation, and how a conversation is shown to a judge."""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from s2d_ray.data.records import Message, Prompt, assistant, user


def before(prompt: Prompt, examples: Iterable[tuple[str, str]] = ()) -> list[Message]:
    """All that comes before the last turn of a prompt: what the system says, worked examples, the earlier turns.

    `examples` are what is asked and what the model replies. A method puts its own ask behind, in the last turn's place.
    """
    said, turns = opening(prompt.messages)
    shown = [turn for asked, reply in examples for turn in (user(asked), assistant(reply))]
    return [*said, *shown, *turns[:-1]]


def opening(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """What the system says before the first turn, and the turns."""
    said = list(takewhile(lambda message: message["role"] == "system", messages))
    return said, list(messages[len(said) :])


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as one text that says who says what; of a single turn, what it says."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)
