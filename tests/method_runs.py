"""Running a shipped method over a model that is a function in the test."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any

from s2d_ray.data.records import Message, Prompt, Sample, user
from s2d_ray.inference.method_runs import run_method
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.recipes.strict import Named

Reply = Callable[[list[str]], str]
"""What the model says to a chat, given the texts of its turns."""

_reply: ContextVar[Reply] = ContextVar("reply")


def script(messages: Sequence[Message], random: Random) -> str:
    """What the test that is running wants the model to say."""
    return _reply.get()([message["content"] for message in messages])


def engine_that_says(reply: Reply) -> ScriptedEngine:
    """A scripted engine for the rest of the test that calls this."""
    _reply.set(reply)
    return ScriptedEngine(Engine(kind="scripted", script=f"{__name__}:script"))


async def ask(method: str, prompt: Prompt | str, reply: Reply, max_tokens: int = 256, **options: Any) -> Sample:
    """One sample of a method, with every call that it made."""
    asked = Prompt("id", [user(prompt)]) if isinstance(prompt, str) else prompt
    loaded = load_method(Named(name=method, **options))
    [sample] = await run_method(
        loaded, asked, engine_that_says(reply), Sampling(max_tokens=max_tokens), samples=1, seed=0
    )
    return sample
