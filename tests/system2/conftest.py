"""Running a shipped method over a scripted model."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from s2d_ray.config import Engine, Named, Sampling
from s2d_ray.inference.program_run import run_method
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.records import Prompt, Sample, user
from s2d_ray.system2.catalogue import load_method

Reply = Callable[[list[str]], str]
"""What the scripted model says to a chat, given the texts of its turns."""


class Ask(Protocol):
    def __call__(
        self, method: str, prompt: Prompt | str, reply: Reply, max_tokens: int = 256, **options: Any
    ) -> Awaitable[Sample]: ...


@pytest.fixture
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """One sample of a method, with every call that it made."""

    async def run(method: str, prompt: Prompt | str, reply: Reply, max_tokens: int = 256, **options: Any) -> Sample:
        monkeypatch.setattr(
            request.module, "script", lambda messages, random: reply([m["content"] for m in messages]), raising=False
        )
        engine = ScriptedEngine(Engine(kind="scripted", script=f"{request.module.__name__}:script"))
        asked = Prompt("id", [user(prompt)]) if isinstance(prompt, str) else prompt
        loaded = load_method(Named(name=method, **options))
        [sample] = await run_method(loaded, asked, engine, Sampling(max_tokens=max_tokens), samples=1, seed=0)
        return sample

    return run
