"""vLLM's asynchronous engine, on GPU or on CPU."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from copy import copy
from itertools import count
from pathlib import Path
from typing import Any

from s2d_ray.data.copies import local_copy, release
from s2d_ray.data.records import Completion, Message
from s2d_ray.inference.engine import Activity, EngineDied, EngineError, PromptTooLong, RefusedRequest
from s2d_ray.inference.parent_death import own_engine
from s2d_ray.inference.vllm_arguments import adapter_arguments, engine_arguments, form_arguments
from s2d_ray.inference.vllm_sampling import sampling_parameters
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.rendering.renderer import RefusedChat, Rendered, Renderer

LIVENESS_SECONDS = 5.0
"""How often a waiting call looks whether its engine still lives."""

ONE_TOKEN = Sampling(temperature=0, top_p=1, max_tokens=1)
"""vLLM generates at least one, also where the prompt is all that is asked about."""


class VllmEngine:
    """One copy of the model. Construct it inside a running event loop; it owns an engine process."""

    def __init__(
        self,
        config: Engine,
        model: Path,
        trust_remote_code: bool = False,
        adapter: Path | None = None,
        chat: Chat = DEFAULT_CHAT,
    ) -> None:
        own_engine()
        self._config, self._trust_remote_code, self._adapter = config, trust_remote_code, adapter
        self._chat = chat
        self._lora: Any = None
        self._request_ids = count()
        self._start(model)

    def _start(self, model: Path) -> None:
        arguments = engine_arguments(self._config, model, self._trust_remote_code)
        self._renderer = Renderer.load(model, self._trust_remote_code, self._chat)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        if self._adapter is not None:
            arguments |= adapter_arguments(self._adapter)
        arguments = form_arguments(self._renderer.marks) | arguments
        self._report = SchedulerReport()
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**arguments), stat_loggers=[lambda config, index: self._report]
        )
        self._model = model

    @property
    def alive(self) -> bool:
        """Whether the engine process can still answer."""
        return not self._engine.errored

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """`n` completions of a chat. Raises EngineError for a prompt longer than the model's context."""
        prompt = self._prompt(messages, sampling)
        sampling, stop = self._limits(prompt, sampling)
        parameters = self._parameters(prompt.tokens, sampling, n, seed)
        async for output in self._outputs(prompt.tokens, parameters, self._renderer.expects_thought(prompt)):
            final = output
        cached = final.num_cached_tokens or 0
        completions = list[Completion]()
        for one in final.outputs:
            split = self._renderer.split(prompt, stop)
            split.add(one.text)
            split.finish()
            reason = "stop" if split.stopped else str(one.finish_reason)
            mean = _mean(one.cumulative_logprob, len(one.token_ids))
            counts = len(prompt.tokens), cached, len(one.token_ids)
            completions.append(Completion(split.text, reason, *counts, mean, split.thought))
        return completions if len(completions) == n else completions * n

    async def score(self, messages: Sequence[Message]) -> list[float]:
        """The log-probabilities of the last turn's tokens, up to the one that ends it. Raises as `complete` does."""
        with _refusals():
            given, reply = self._renderer.pair(messages)
        tokens = [*given, *reply]
        parameters = self._parameters(tokens, ONE_TOKEN, 1, seed=0)
        # 0: of the tokens that are there alone, none of those that would be likelier.
        parameters.prompt_logprobs, parameters.detokenize = 0, False
        # vLLM has none of what it finds in its cache.
        parameters.skip_reading_prefix_cache = True
        async for output in self._outputs(tokens, parameters):
            final = output
        scored = final.prompt_logprobs[len(given) :]
        return [found[token].logprob for token, found in zip(reply, scored, strict=True)]

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """The text of one completion piece by piece, and the whole completion at the end."""
        prompt = self._prompt(messages, sampling)
        sampling, stop = self._limits(prompt, sampling)
        tokens, split, generated = prompt.tokens, self._renderer.split(prompt, stop), 0
        parameters = self._parameters(tokens, sampling, 1, seed, stream=True)
        async with aclosing(self._outputs(tokens, parameters, self._renderer.expects_thought(prompt))) as outputs:
            async for output in outputs:
                [choice] = output.outputs
                generated += len(choice.token_ids)
                if said := split.add(choice.text):
                    yield said
                if split.stopped:
                    break
        if said := split.finish():
            yield said
        cached = output.num_cached_tokens or 0
        mean = _mean(choice.cumulative_logprob, generated)
        reason = "stop" if split.stopped else str(choice.finish_reason)
        yield Completion(split.text, reason, len(tokens), cached, generated, mean, split.thought)

    def _limits(self, prompt: Rendered, sampling: Sampling) -> tuple[Sampling, tuple[str, ...]]:
        """What vLLM is asked for, and the texts that end what is said where it must not look for them.

        It looks for them, and counts tokens, in all that is generated, in a thought too.
        """
        thinks = self._renderer.expects_thought(prompt)
        stop = sampling.stop if thinks else ()
        update = {"max_tokens": sampling.most_tokens(thinks), "stop": () if stop else sampling.stop}
        return sampling.model_copy(update=update), stop

    def _prompt(self, messages: Sequence[Message], sampling: Sampling) -> Rendered:
        with _refusals():
            return self._renderer.prompt(messages, sampling.template, sampling.thinking)

    def _parameters(self, tokens: Sequence[int], sampling: Sampling, n: int, seed: int, stream: bool = False) -> Any:
        from vllm.sampling_params import RequestOutputKind

        room = self._config.max_model_len - len(tokens)
        if room < 1:
            # By these words clients know it from other mistakes.
            has = f"it has {len(tokens)} tokens; max_model_len is {self._config.max_model_len}"
            raise PromptTooLong(f"the prompt is too long: {has}")
        parameters = sampling_parameters(sampling, n, seed if self._config.seeded else None, room)
        if stream:
            parameters.output_kind = RequestOutputKind.DELTA
        # 0: of the tokens that were taken alone.
        parameters.logprobs = 0 if self._config.logprobs else None
        if self._renderer.end != self._renderer.tokenizer.eos_token_id:
            parameters.stop_token_ids = [self._renderer.end]
        if self._renderer.marks:
            parameters.thinking_token_budget = sampling.thinking_tokens
            parameters.skip_special_tokens = not self._renderer.hides_marks
        return parameters

    async def _outputs(self, tokens: list[int], parameters: Any, thinks: bool = False) -> AsyncGenerator[Any, None]:
        """What vLLM gives for a request. Raises EngineDied; a caller that goes away aborts the request.

        Where the model `thinks` first, no form binds its thought.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        request_id = f"s2d-{next(self._request_ids)}"
        told = {"lora_request": self._lora, "reasoning_ended": not thinks}
        outputs = self._engine.generate({"prompt_token_ids": tokens}, parameters, request_id, **told)
        report = self._report
        report.in_flight += parameters.n
        try:
            while True:
                coming = asyncio.ensure_future(anext(outputs, None))
                try:
                    # vLLM leaves a request waiting for ever whose engine dies before it took the request.
                    while not (await asyncio.wait({coming}, timeout=LIVENESS_SECONDS))[0]:
                        if self._engine.errored:
                            raise EngineDied("the engine process has ended")
                finally:
                    coming.cancel()
                if (output := coming.result()) is None:
                    return
                if any(choice.finish_reason == "error" for choice in output.outputs):
                    raise EngineError("the engine could not go on with this request")
                yield output
        except VLLMClientError as error:
            raise RefusedRequest(str(error)) from error
        except EngineDeadError as error:
            raise EngineDied(str(error)) from error
        finally:
            report.in_flight -= parameters.n
            # A generator can be closed only once nobody waits for it any more.
            await asyncio.wait({coming})
            await outputs.aclose()

    def adapted(self) -> "VllmEngine":
        """The same engine with the adapter that it was started with."""
        from vllm.lora.request import LoRARequest

        assert self._adapter is not None
        other = copy(self)
        other._lora = LoRARequest("adapter", 1, str(self._adapter))
        return other

    def activity(self) -> Activity:
        """By vLLM's scheduler after its last step; what it has not taken up by then is waiting."""
        report = self._report
        running = min(report.running, report.in_flight)
        return Activity(running, report.in_flight - running, report.progressed)

    async def load(self, model: Path) -> None:
        """Other weights into the running engine, in a second; a new engine where they do not suffice."""
        model, before = await asyncio.to_thread(local_copy, model), self._model
        await self._load(model)
        if model != before:
            release(before)

    async def _load(self, model: Path) -> None:
        if not same_embeddings(self._model, model):
            # A reload leaves a tied output layer as it was (vLLM 0.29 on CPU packs it once).
            self.close()
            return self._start(model)
        try:
            await self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(model)})
            # What it holds was computed with the weights of before.
            await self._engine.reset_prefix_cache()
        except Exception as error:  # An engine with half its weights replaced must not answer.
            raise EngineDied(f"the weights of {model} could not be loaded: {error}") from error
        self._model = model

    def close(self) -> None:
        """End the engine process."""
        self._engine.shutdown()


@contextmanager
def _refusals() -> Iterator[None]:
    """A chat that the template refuses is the request's fault."""
    try:
        yield
    except RefusedChat as error:
        raise RefusedRequest(str(error)) from error


def _mean(total: float | None, count: int) -> float | None:
    return None if total is None or not count else total / count


class SchedulerReport:
    """What vLLM was given, and what it reports after each step, as one of its stat loggers."""

    def __init__(self) -> None:
        self.in_flight = 0
        """Sequences asked for, with an adapter or without."""
        self.running = 0
        self.progressed = time.monotonic()

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Called by vLLM; either of the first two may be None."""
        if scheduler_stats is not None:
            self.running = scheduler_stats.num_running_reqs
        if iteration_stats is not None and iteration_stats.num_generation_tokens:
            self.progressed = time.monotonic()

    def log(self) -> None:
        """Called by vLLM; nothing to print."""

    def log_engine_initialized(self) -> None:
        """Called by vLLM; nothing to print."""

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        """Called by vLLM; its engine never sleeps here."""


def same_embeddings(one: Path, other: Path) -> bool:
    """Whether two model folders hold equal embeddings and output layers; never true for other file formats."""
    first, second = (_embeddings(folder) for folder in (one, other))
    return bool(first) and first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def _embeddings(folder: Path) -> dict[str, Any]:
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if "embed" in name or "lm_head" in name]  # noqa: SIM118
            tensors |= {name: file.get_tensor(name) for name in names}
    return tensors
