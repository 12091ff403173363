"""Running a method on a prompt: sampling, seeds and the trace are added here, around `generate`."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from s2d_ray.data.records import Completion, Message, Prompt, Sample, Step, content_id, text_given
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.methods.method import MalformedOutput, Method
from s2d_ray.recipes.chat import TemplateArguments
from s2d_ray.recipes.sections import Sampling
from s2d_ray.rendering.thoughts import Split
from s2d_ray.tasks.task import Task

NO_FORM = "the answer has no form: the method said of no call that it is final"


@dataclass
class Recorder:
    """The `generate` of one sample: fills in the sampling, derives seeds, keeps every step."""

    engine: CompletionEngine
    sampling: Sampling
    seed_parts: tuple[str, ...]
    """What this sample's seeds derive from, with the step's name and its count within the sample."""
    steps: list[Step] = field(default_factory=list[Step])
    answered: bool = False
    """Whether a call was the answer itself."""
    _calls: Counter[str] = field(default_factory=Counter[str])

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        template: TemplateArguments | None = None,
        thinking: bool | None = None,
        thinking_tokens: int | None = None,
        final: bool = False,
    ) -> list[Completion]:
        seed = int(content_id(*self.seed_parts, step, str(self._calls[step]))[:8], 16)
        self._calls[step] += 1
        self.answered |= final
        sampling = self.sampling.model_copy(
            update={
                "stop": (*self.sampling.stop, *stop, *(self.sampling.answer_stop if final else ())),
                "template": {**self.sampling.template, **(template or {})},
                "thinking": self.sampling.thinking if thinking is None else thinking,
                "thinking_tokens": self.sampling.thinking_tokens if thinking_tokens is None else thinking_tokens,
                "said_tokens": max_tokens,
                "answer_format": self.sampling.answer_format if final else None,
            }
        )
        start = time.monotonic()
        completions = await self.engine.complete(messages, sampling, n, seed)
        seconds = time.monotonic() - start
        # One prompt was read for all n completions, so its tokens are counted once.
        for index, c in enumerate(completions):
            first = index == 0
            self.steps.append(
                Step(
                    name=step,
                    text=c.text,
                    finish_reason=c.finish_reason,
                    prompt_tokens=c.prompt_tokens if first else 0,
                    cached_tokens=c.cached_tokens if first else 0,
                    completion_tokens=c.completion_tokens,
                    seconds=seconds,
                    mean_logprob=c.mean_logprob,
                    thought=c.thought,
                )
            )
        return completions


def _stopped(answer: str, stop: Sequence[str]) -> str:
    """The answer up to a stop text: where it is read from a call that says more, the call itself goes on."""
    split = Split(None, stop=stop)
    split.add(answer)
    return split.text


async def run_on_all_forms(
    method: Method, task: Task, prompt: Prompt, engine: CompletionEngine, sampling: Sampling, samples: int, seed: int
) -> list[Sample]:
    """`samples` runs of a method on the prompt, then as many on each perturbed form that the task has of it."""
    answered = await run_method(method, prompt, engine, sampling, samples, seed)
    for variant in task.variants(prompt):
        answered += await run_method(method, variant.prompt, engine, sampling, samples, seed, variant.name)
    return answered


async def run_method(
    method: Method,
    prompt: Prompt,
    engine: CompletionEngine,
    sampling: Sampling,
    samples: int,
    seed: int,
    variant: str = "",
) -> list[Sample]:
    """`samples` independent runs of a method on one prompt, concurrently.

    Malformed model output ends that sample with its reason; EngineError is raised to the caller.
    """

    async def one(index: int) -> Sample:
        generate = Recorder(engine, sampling, (str(seed), prompt.prompt_id, variant, str(index)))
        try:
            text, error = _stopped(text_given(await method(prompt, generate), "the method"), sampling.answer_stop), ""
            if sampling.answer_format is not None and not generate.answered:
                raise MalformedOutput(NO_FORM)
        except MalformedOutput as malformed:
            text, error = "", str(malformed)
        except SystemExit as left:  # Of a task it would end the event loop.
            raise RuntimeError("SystemExit") from left
        return Sample(text=text, variant=variant, error=error, steps=tuple(generate.steps))

    running = [asyncio.ensure_future(one(index)) for index in range(samples)]
    try:
        return await asyncio.gather(*running)
    finally:
        # Where one failed, nobody waits for the others: their calls need not take the engine's time.
        for sample in running:
            sample.cancel()
