"""What each arm does with a prompt: a method over an engine, the same function as in generation and evaluation."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from s2d_ray.arms import CoreArm
from s2d_ray.curation.samples import parse_sample
from s2d_ray.data.records import Completion, Message, Prompt, Sample
from s2d_ray.evaluation.cascade import confidence_of, escalates, majority_first, same_answer
from s2d_ray.inference.engine import RefusedRequest, StreamingEngine
from s2d_ray.inference.method_runs import NO_FORM, run_method
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.methods.method import Method
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.serve import Cascade
from s2d_ray.serving.protocol import ServedAnswer
from s2d_ray.tasks.task import Task

OnText = Callable[[str], None]


class NoAnswer(Exception):
    """The model's text could not be used by the method, so that there is no answer."""

    def __init__(self, reason: str, cut: bool) -> None:
        super().__init__(f"the model's text could not be used: {reason}")
        self.cut = cut
        """Whether the token limit ended a text."""


@dataclass(frozen=True)
class Responder:
    """A model and a method."""

    method: Method
    engine: StreamingEngine
    streams: bool
    """Whether its only call is the answer, so that it can be sent while it is generated."""


@dataclass(frozen=True)
class Confidence:
    """When the student's answer is kept."""

    rule: Cascade
    threshold: float | None
    """As calibrated at evaluation; None sends everything on to the teacher."""


class Responders:
    """The arms that a client may get."""

    def __init__(
        self,
        task: Task,
        responders: Mapping[CoreArm, Responder],
        confidence: Confidence | None = None,
        judge: PairwiseJudge | None = None,
    ) -> None:
        self._task, self._responders, self._confidence, self._judge = task, responders, confidence, judge

    async def answer(
        self, arm: CoreArm, prompt: Prompt, sampling: Sampling, seed: int, on_text: OnText | None = None
    ) -> ServedAnswer:
        """One arm's answer; `on_text` gets its text as it comes, where the arm streams.

        Raises NoAnswer for malformed model output, RefusedRequest for a form that the method gives no answer, and what
        the engine raises.
        """
        if self._cascades(arm):
            return await self._cascade(arm, prompt, sampling, seed)
        responder = self._responders[arm]
        engine = responder.engine
        if on_text is not None and responder.streams:
            engine = _TeeEngine(engine, on_text)
        [sample] = await run_method(responder.method, prompt, engine, sampling, 1, seed)
        return _answer(arm, [sample])

    async def agreement(self, prompt: Prompt, student: ServedAnswer, teacher: ServedAnswer, seed: int) -> float:
        """1 where both texts, or the answers that the task reads off them, are the same, or the judge finds the
        student's as good; else 0.

        Raises what the judge raises.
        """
        texts = student.text.strip(), teacher.text.strip()
        answers = [parse_sample(Sample(one.text, steps=one.steps), prompt, self._task) for one in (student, teacher)]
        if texts[0] == texts[1] or same_answer(self._task, *answers):
            return 1.0
        return float(self._judge is not None and await self._judge.as_good(prompt, *texts, seed))

    def _cascades(self, arm: CoreArm) -> bool:
        return arm == "student" and self._confidence is not None

    async def _cascade(self, arm: CoreArm, prompt: Prompt, sampling: Sampling, seed: int) -> ServedAnswer:
        assert self._confidence is not None
        rule, responder = self._confidence.rule, self._responders[arm]
        samples = rule.samples if rule.confidence == "votes" else 1
        drawn = await run_method(responder.method, prompt, responder.engine, sampling, samples, seed)
        confidence = confidence_of(rule, self._task, prompt, drawn)
        if not escalates(confidence, self._confidence.threshold):
            return _answer(arm, majority_first(self._task, prompt, drawn), confidence)
        above = self._responders["teacher"]
        [sample] = await run_method(above.method, prompt, above.engine, sampling, 1, seed)
        return _answer("teacher", [sample, *drawn], confidence, escalated=True)


def _answer(
    arm: CoreArm, samples: Sequence[Sample], confidence: float | None = None, *, escalated: bool = False
) -> ServedAnswer:
    """The first sample's answer; the others only count as work."""
    first = samples[0]
    if first.error == NO_FORM:
        raise RefusedRequest(first.error)
    if first.error:
        raise NoAnswer(first.error, any(step.finish_reason == "length" for step in first.steps))
    steps = [step for sample in reversed(samples) for step in sample.steps]
    return ServedAnswer(first.text, steps[-1].finish_reason if steps else "stop", arm, steps, confidence, escalated)


class _TeeEngine:
    """An engine whose completions are passed on piece by piece as well."""

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
