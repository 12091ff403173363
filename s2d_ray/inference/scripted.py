"""An engine that runs a Python function instead of a model: for trials, tests and measurements of the pipeline.

The function is given by name in the recipe, sees the chat and a seeded random generator, and returns text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from s2d_ray.config import Engine, Sampling
from s2d_ray.imports import import_object
from s2d_ray.records import Completion, Message

Script = Callable[[Sequence[Message], Random], str]


class ScriptedEngine:
    """Completions from a script; tokens are counted as words."""

    def __init__(self, config: Engine) -> None:
        self._script: Script = import_object(config.script)

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """`n` completions, the same for the same messages and seed."""
        read = sum(len(m["content"].split()) for m in messages)
        texts = [self._script(messages, Random(f"{seed}/{index}")) for index in range(n)]
        return [Completion(text, "stop", read, 0, len(text.split())) for text in texts]

    async def load(self, model: Path) -> None:
        """A script is the same whatever the model."""

    def close(self) -> None:
        """Nothing to free."""


def echo(messages: Sequence[Message], random: Random) -> str:
    """Says what was said last."""
    return messages[-1]["content"]
