"""What gives completions: one interface for vLLM and for the scripted engine of trials and tests."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from s2d_ray.data.records import Completion, Message
from s2d_ray.recipes.sections import Sampling


class EngineError(Exception):
    """This request failed; the engine goes on. The row that asked fails with this reason."""


class RefusedRequest(EngineError):
    """The request itself is at fault, and would fail wherever it is asked: refused by the chat template or the engine's
    rules."""


class PromptTooLong(RefusedRequest):
    """The prompt is longer than the model's context."""


class EngineDied(Exception):
    """The engine is gone: every request fails until a new one is started."""


class CompletionEngine(Protocol):
    """Answers chats. Many calls run at once and are batched by the engine."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """`n` completions. Raises EngineError where this request cannot be served."""
        ...


class ScoringEngine(CompletionEngine, Protocol):
    """An engine that also tells how likely a given reply is."""

    async def score(self, messages: Sequence[Message]) -> list[float]:
        """The log-probability of each token of the last turn, its end included, after the turns before it; in nats.

        Raises as `complete` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class Activity:
    """What an engine says of itself."""

    running: int
    """Sequences that it works on."""
    waiting: int
    """Sequences that wait until it has room for them."""
    progressed: float
    """When it last gave a token, by `time.monotonic`."""


class StreamingEngine(CompletionEngine, Protocol):
    """An engine that also tells what it generates while it does."""

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """The text of one completion piece by piece, and the whole completion at the end.

        A caller that goes away before the end ends the generation. Raises as `complete` does.
        """
        ...


class RunningEngine(StreamingEngine, ScoringEngine, Protocol):
    """An engine in the hands of whoever started it."""

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        ...

    def activity(self) -> Activity:
        """What it is doing, as of its last report."""
        ...

    def adapted(self) -> "RunningEngine":
        """The same engine, answering with the adapter that it was started with."""
        ...

    async def load(self, model: Path) -> None:
        """Answer with the weights of another model of the same architecture and tokenizer from now on.

        Only while no call waits. Raises EngineDied where the weights cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free the engine and end its processes."""
        ...
