"""An engine that runs a Python function instead of a model: for trials, tests and measurements of the pipeline.

The function is given by name in the recipe, sees the chat and a seeded random generator, and returns text, which may
begin with a thought (`<think>…</think>`). Where it has a parameter `model` it is also given the folder of the model
that it stands for; so with `template`, what a chat template would be told in this call, and `thinking`, whether the
model shall think.
"""

import asyncio
import inspect
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from math import log
from pathlib import Path
from random import Random

from s2d_ray.data.records import Completion, Message
from s2d_ray.imports import import_object
from s2d_ray.inference.engine import Activity, EngineError
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.rendering.thoughts import SWITCHES, THINK, Split

Script = Callable[..., str | Awaitable[str]]
"""May be async: what it awaits is the time that the engine takes."""
LIKELY, UNLIKELY = log(0.9), log(0.001)
"""Log-probability of a word that the script would say at its place, and of another one."""


class ScriptedEngine:
    """Completions from a script; tokens are counted as words. Works on `max_sequences` at once, as a real engine."""

    alive = True

    def __init__(self, config: Engine, model: Path | None = None, chat: Chat = DEFAULT_CHAT) -> None:
        self._script: Script = import_object(config.script)
        self._tells = inspect.signature(self._script).parameters.keys()
        self._holds, self._chat = model, chat
        self._token_seconds = config.token_seconds
        self._places = asyncio.Semaphore(config.max_sequences)
        self._running = self._in_flight = 0
        self._progressed = time.monotonic()

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """`n` completions, the same for the same messages and seed."""
        read = sum(len(m["content"].split()) for m in messages)
        if n == 1:  # By far the most frequent: no task is made for it.
            return [await self._one(messages, sampling, f"{seed}/0", read)]
        return await asyncio.gather(*(self._one(messages, sampling, f"{seed}/{index}", read) for index in range(n)))

    async def score(self, messages: Sequence[Message]) -> list[float]:
        """By word of the last turn, and its end: how likely it is depends on whether the script would say it there."""
        async with self._place():
            said = _split(await self._say(messages[:-1], Sampling(), "0/0")).text.split()
        given = messages[-1]["content"].split()
        pairs = zip_longest([*given, None], said[: len(given) + 1])
        return [LIKELY if word == expected else UNLIKELY for word, expected in pairs]

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """What `complete` gives, word by word."""
        read = sum(len(m["content"].split()) for m in messages)
        async with self._place():
            completion = _completion(await self._say(messages, sampling, f"{seed}/0"), sampling, read)
            for word in _words(completion.text):
                await asyncio.sleep(self._token_seconds)
                self._progressed = time.monotonic()
                yield word
        yield completion

    async def _one(self, messages: Sequence[Message], sampling: Sampling, seed: str, read: int) -> Completion:
        async with self._place():
            completion = _completion(await self._say(messages, sampling, seed), sampling, read)
            if self._token_seconds:
                await asyncio.sleep(self._token_seconds * completion.completion_tokens)
        self._progressed = time.monotonic()
        return completion

    async def _say(self, messages: Sequence[Message], sampling: Sampling, seed: str) -> str:
        template = {**self._chat.arguments, **sampling.template}
        switched = any(template.get(switch) for switch in SWITCHES)
        thinking = switched if sampling.thinking is None else sampling.thinking
        known = {"model": self._holds, "template": template, "thinking": thinking}
        said = self._script(messages, Random(seed), **{name: known[name] for name in known.keys() & self._tells})
        return await said if inspect.isawaitable(said) else said

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the sequences that it works on at once."""
        self._in_flight += 1
        try:
            async with self._places:
                self._running += 1
                try:
                    yield
                finally:
                    self._running -= 1
        finally:
            self._in_flight -= 1

    def activity(self) -> Activity:
        """Where its sequences are now."""
        return Activity(self._running, self._in_flight - self._running, self._progressed)

    def adapted(self) -> "ScriptedEngine":
        """A script is the same with an adapter."""
        return self

    async def load(self, model: Path) -> None:
        """A script is the same whatever the model, unless it asks which one."""
        self._holds = model

    def close(self) -> None:
        """Nothing to free."""


def _completion(said: str, sampling: Sampling, read: int) -> Completion:
    """The text up to the first stop text, and all within the token limits, as a real engine would end it."""
    split = _split(said, sampling.stop)
    most = sampling.most_tokens(bool(split.thought))
    thought, text = _words(split.thought), split.text
    if sampling.thinking_tokens is not None:
        thought = thought[: sampling.thinking_tokens]
    generated = [*thought, *_words(text)]
    if len(generated) > most:
        text = "".join(generated[len(thought) : most])
    elif sampling.answer_format is not None and not sampling.answer_format.fits(text):
        raise EngineError("the script's text does not have the form that was asked for")
    reason, count = ("length", most) if len(generated) > most else ("stop", len(generated))
    return Completion(text, reason, read, 0, count, thought="".join(thought[:most]))


def _split(said: str, stop: Sequence[str] = ()) -> Split:
    split = Split(THINK, stop=stop)
    split.add(said)
    split.finish()
    return split


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+(?:\s+$)?", text)


def echo(messages: Sequence[Message], random: Random) -> str:
    """Says what was said last."""
    return messages[-1]["content"]
