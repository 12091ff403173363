"""An engine around the scripted one that keeps what it was asked, and may answer out of order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from s2d_ray.data.records import Completion, Message
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.recipes.sections import Engine, Sampling


@dataclass
class Call:
    """One request."""

    messages: list[Message]
    sampling: Sampling
    n: int
    seed: int


@dataclass
class WatchedEngine:
    """`script` answers; each answer is held back for a number of loop turns drawn from `order`."""

    script: str
    order: int | None = None
    """Seed of the order in which answers come; None answers at once."""
    calls: list[Call] = field(default_factory=list[Call])

    def __post_init__(self) -> None:
        self._engine = ScriptedEngine(Engine(kind="scripted", script=self.script))
        self._turns = None if self.order is None else Random(self.order)

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        self.calls.append(Call(list(messages), sampling, n, seed))
        if self._turns is not None:
            for _ in range(self._turns.randrange(20)):
                await asyncio.sleep(0)
        return await self._engine.complete(messages, sampling, n, seed)
