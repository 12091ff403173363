"""An engine that runs a Python function instead of a model: for trials, tests and measurements of the pipeline.

The function is given by name in the recipe, sees the chat and a seeded random generator, and returns text.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from random import Random

from s2d_ray.config import Engine, Sampling
from s2d_ray.imports import import_object
from s2d_ray.records import Completion, Message

Script = Callable[[Sequence[Message], Random], str]


class ScriptedEngine:
    """Completions from a script; tokens are counted as words."""

    alive = True

    def __init__(self, config: Engine) -> None:
        self._script: Script = import_object(config.script)
        self._token_seconds = config.token_seconds
        self._slots = asyncio.Semaphore(config.max_sequences)

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """`n` completions, the same for the same messages and seed."""
        read = sum(len(m["content"].split()) for m in messages)
        texts = [self._script(messages, Random(f"{seed}/{index}")) for index in range(n)]
        completions = [_completion(text, sampling, read) for text in texts]
        if self._token_seconds:
            async with self._slots:
                await asyncio.sleep(self._token_seconds * max(c.completion_tokens for c in completions))
        return completions

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """What `complete` gives, word by word."""
        read = sum(len(m["content"].split()) for m in messages)
        completion = _completion(self._script(messages, Random(f"{seed}/0")), sampling, read)
        async with self._slots:
            for word in _words(completion.text):
                await asyncio.sleep(self._token_seconds)
                yield word
        yield completion

    def adapted(self) -> "ScriptedEngine":
        """A script is the same with an adapter."""
        return self

    async def load(self, model: Path) -> None:
        """A script is the same whatever the model."""

    def close(self) -> None:
        """Nothing to free."""


def _completion(text: str, sampling: Sampling, read: int) -> Completion:
    """The text up to the first stop text and within the token limit, as a real engine would end it."""
    for stop in sampling.stop:
        text = text.partition(stop)[0]
    words = _words(text)
    if len(words) > sampling.max_tokens:
        return Completion("".join(words[: sampling.max_tokens]), "length", read, 0, sampling.max_tokens)
    return Completion(text, "stop", read, 0, len(words))


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+(?:\s+$)?", text)


def echo(messages: Sequence[Message], random: Random) -> str:
    """Says what was said last."""
    return messages[-1]["content"]
