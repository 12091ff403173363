"""The prompt of a conversation."""

from collections.abc import Sequence
from dataclasses import replace

from s2d_ray.data.records import Message, Prompt, content_id
from s2d_ray.errors import UserError
from s2d_ray.tasks.task import Task


def asked(task: Task, messages: Sequence[Message]) -> Prompt:
    """The last turn as the task asks it, after what came before; a single question is exactly `task.ask`.

    Raises UserError where the last turn is not the user's, and as `task.ask` does.
    """
    *before, last = messages
    if last["role"] != "user":
        raise UserError(f"the last message is the {last['role']}'s: only what a user says last can be answered")
    prompt = task.ask(last["content"])
    if not before:
        return prompt
    said = (f"{message['role']}: {message['content']}" for message in messages)
    return replace(prompt, prompt_id=content_id(*said), messages=[*before, *prompt.messages])
