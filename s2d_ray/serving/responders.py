"""What each arm does with a prompt: a method over an engine, the same function as in generation and evaluation."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from s2d_ray.data.records import Completion, Message, Prompt, Sample
from s2d_ray.evaluation.cascade import confidence_of, escalates, majority_first, same_answer
from s2d_ray.experiment.assignment import Arm
from s2d_ray.inference.engine import StreamingEngine
from s2d_ray.inference.method_runs import run_method
from s2d_ray.methods.method import Method
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.serve import Cascade
from s2d_ray.serving.judge import AnswerJudge
from s2d_ray.serving.protocol import Answer
from s2d_ray.tasks.task import Task

OnText = Callable[[str], None]


class NoAnswer(Exception):
    """The model's text could not be used by the method, so that there is no answer."""


@dataclass(frozen=True)
class Responder:
    """A model and a method."""

    method: Method
    engine: StreamingEngine
    streams: bool
    """Whether its only call is the answer, so that it can be sent while it is generated."""


@dataclass(frozen=True)
class Confidence:
    """When System 1's answer is kept."""

    rule: Cascade
    threshold: float | None
    """As calibrated at evaluation; None sends everything on to System 2."""


class Arms:
    """The arms that a client may get."""

    def __init__(
        self,
        task: Task,
        responders: Mapping[Arm, Responder],
        confidence: Confidence | None = None,
        judge: AnswerJudge | None = None,
    ) -> None:
        self._task, self._responders, self._confidence, self._judge = task, responders, confidence, judge

    def streams(self, arm: Arm) -> bool:
        """Whether the arm's text comes while it is generated."""
        return self._responders[arm].streams and not self._cascades(arm)

    async def answer(
        self, arm: Arm, prompt: Prompt, sampling: Sampling, seed: int, on_text: OnText | None = None
    ) -> Answer:
        """One arm's answer; `on_text` gets its text as it comes, where the arm streams.

        Raises NoAnswer for malformed model output, and what the engine raises.
        """
        if self._cascades(arm):
            return await self._cascade(arm, prompt, sampling, seed)
        responder = self._responders[arm]
        engine = responder.engine
        if on_text is not None and responder.streams:
            engine = _Overheard(engine, on_text)
        [sample] = await run_method(responder.method, prompt, engine, sampling, 1, seed)
        return _answer(arm, [sample])

    async def agreement(self, prompt: Prompt, system1: str, system2: str, seed: int) -> float:
        """1 where both answers are the same for the task, or the judge finds System 1's as good; else 0.

        Raises what the judge raises.
        """
        if same_answer(self._task, prompt, system1, system2):
            return 1.0
        return float(self._judge is not None and await self._judge.as_good(prompt, system1, system2, seed))

    def _cascades(self, arm: Arm) -> bool:
        return arm == "system1" and self._confidence is not None

    async def _cascade(self, arm: Arm, prompt: Prompt, sampling: Sampling, seed: int) -> Answer:
        assert self._confidence is not None
        rule, responder = self._confidence.rule, self._responders[arm]
        samples = rule.samples if rule.confidence == "votes" else 1
        drawn = await run_method(responder.method, prompt, responder.engine, sampling, samples, seed)
        confidence = confidence_of(rule, self._task, prompt, drawn)
        if not escalates(confidence, self._confidence.threshold):
            return _answer(arm, majority_first(self._task, prompt, drawn), confidence)
        above = self._responders["system2"]
        [sample] = await run_method(above.method, prompt, above.engine, sampling, 1, seed)
        return _answer("system2", [sample, *drawn], confidence, escalated=True)


def _answer(arm: Arm, samples: Sequence[Sample], confidence: float | None = None, *, escalated: bool = False) -> Answer:
    """The first sample's answer; the others only count as work."""
    first = samples[0]
    if first.error:
        raise NoAnswer(f"the model's text could not be used: {first.error}")
    steps = [step for sample in reversed(samples) for step in sample.steps]
    return Answer(first.text, steps[-1].finish_reason if steps else "stop", arm, steps, confidence, escalated)


class _Overheard:
    """An engine whose completions are told piece by piece as well."""

    def __init__(self, engine: StreamingEngine, on_text: OnText) -> None:
        self._engine, self._on_text = engine, on_text

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        assert n == 1
        async with aclosing(self._engine.stream(messages, sampling, seed)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return [piece]
                self._on_text(piece)
        raise AssertionError("a stream ends with its completion")

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        return self._engine.stream(messages, sampling, seed)
