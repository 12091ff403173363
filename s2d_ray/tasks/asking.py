"""A task's prompt of a chat, as a client or a person brings it."""

from collections.abc import Sequence
from dataclasses import replace

from s2d_ray.data.records import Message, Prompt, content_id
from s2d_ray.errors import UserError
from s2d_ray.methods.turns import opening
from s2d_ray.tasks.task import Task


def asked(task: Task, messages: Sequence[Message]) -> Prompt:
    """The task's prompt of the last turn, with all that came before it; of a single question what `task.ask` gives.

    Raises UserError where the last turn is not a person's, and where the task can make no prompt of it.
    """
    if not messages or messages[-1]["role"] != "user":
        raise UserError("a chat ends with what is asked: its last message must be the user's")
    *earlier, last = messages
    prompt = task.ask(last["content"])
    if not earlier:
        return prompt
    (system, turns), (own_system, own_turns) = opening(earlier), opening(prompt.messages)
    chat = [*system, *own_system, *turns, *own_turns]
    return replace(prompt, prompt_id=conversation_id(chat), messages=chat)


def conversation_id(messages: Sequence[Message]) -> str:
    """The identity of a conversation: who says what, in order."""
    return content_id(*(f"{message['role']}: {message['content']}" for message in messages))
