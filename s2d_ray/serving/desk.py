"""A request's way: assigned, admitted, answered, stored. Knows neither HTTP nor Ray."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from random import Random
from typing import Any, Protocol
from uuid import uuid4

from s2d_ray.data.records import Prompt, kind_of
from s2d_ray.errors import UserError
from s2d_ray.experiment.assignment import ARMS, MODELS, Arm, arm_at, place
from s2d_ray.experiment.events import Feedback, Outcome, RequestEvent, ShadowEvent, cost
from s2d_ray.experiment.experiment import ExperimentState
from s2d_ray.experiment.store import EventStore
from s2d_ray.inference.engine import EngineDied, EngineError
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.serve import ScaledArm, Serve, ServedArm
from s2d_ray.serving.admission import Admission, Refused
from s2d_ray.serving.protocol import Answer, Asked
from s2d_ray.serving.responders import Arms, OnText
from s2d_ray.tasks.task import Task

log = logging.getLogger(__name__)
SYNC_SECONDS = 1.0
"""How often the desk reports what has ended, and learns which weights are in force."""
REPORTED_AT_MOST = 10_000
"""Requests kept for a report that cannot be made, the latest ones."""
OTHER: Mapping[Arm, Arm] = {"system1": "system2", "system2": "system1"}
"""Arm → the one that it is compared with."""


class NoSuchModel(UserError):
    """The client asks for a model that is not served."""


class Failed(Exception):
    """The server has no answer to a request that was in order."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Office(Protocol):
    """Who decides about the experiment."""

    async def observe(self, events: Sequence[RequestEvent]) -> ExperimentState:
        """Report requests that have ended; the state in force."""
        ...

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """Change the experiment; the state in force after that."""
        ...

    async def page(self, nonce: str) -> str:
        """The page that shows it."""
        ...


class Metrics(Protocol):
    """Counts for whoever watches the servers."""

    def ended(self, event: RequestEvent) -> None: ...

    def load(self, arm: Arm, answering: int, waiting: int, weight: float) -> None: ...


@dataclass
class Turn:
    """One request on its way."""

    request: Asked
    prompt: Prompt
    sampling: Sampling
    seed: int
    arm: Arm
    version: int | None
    cluster: int
    request_id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    received: float = field(default_factory=time.time)
    """In seconds since 1970."""
    start: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    """When the first text was there, on the clock of `start`."""

    @property
    def seconds(self) -> float:
        """Since the request came in."""
        return time.monotonic() - self.start


class Desk:
    """Lives in one event loop."""

    def __init__(
        self, recipe: Recipe, task: Task, arms: Arms, office: Office, events: Path, metrics: Metrics | None = None
    ) -> None:
        self._recipe, self._serve, self._task = recipe, recipe.serve, task
        self._arms, self._office, self._metrics = arms, office, metrics
        self._store = EventStore(events)
        self._admission = {arm: _admission(self._serve, arm) for arm in ARMS}
        self._state: ExperimentState | None = None
        self._ended: list[RequestEvent] = []
        self._background: set[asyncio.Task[None]] = set()
        self._shadows = 0
        self._random = Random()

    async def open(self) -> None:
        """Learn the weights, and keep learning them. Before that nothing can be answered."""
        self._state = await self._office.observe(())
        self._spawn(self._sync_for_ever())
        self._spawn(self._flush_for_ever())

    async def close(self) -> None:
        """Store what is left."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.to_thread(self._store.close)

    def turn(self, request: Asked, user: str) -> Turn:
        """Who answers which prompt how. Raises UserError where the request cannot be answered by any arm."""
        if request.model not in MODELS:
            raise NoSuchModel(f"no model {request.model}: there are {', '.join(MODELS)}")
        assert self._state is not None
        stands = place(self._serve.salt, user)
        named = MODELS[request.model]
        return Turn(
            request=request,
            prompt=request.prompt(self._task),
            sampling=request.sampling(self._recipe.evaluate.sampling, self._serve.max_tokens),
            seed=self._random.getrandbits(31) if request.seed is None else request.seed,
            arm=named or arm_at(stands.point, self._state.weights),
            version=None if named else self._state.version,
            cluster=stands.cluster,
        )

    async def answer(self, turn: Turn, on_text: OnText | None = None) -> Answer:
        """The arm's answer, stored before it is returned.

        Raises Refused past a limit, UserError for a prompt that does not fit the model, and Failed otherwise.
        """
        outcome: Outcome = "cancelled"
        answer, error = None, ""
        try:
            answer = await self._in_time(turn, on_text)
            outcome = "answered"
        except (Refused, UserError) as refused:
            outcome, error = "refused", str(refused)
            raise
        except Failed as failed:
            outcome, error = "failed", str(failed)
            raise
        finally:
            self._record(turn, outcome, error, answer)
        self._shadow(turn, answer)
        return answer

    def feedback(self, feedback: Feedback) -> None:
        """Keep what a user thought of an answer."""
        self._store.add(feedback.event(time.time()))

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """Change the experiment, for this desk at once and for others within a second."""
        self._state = await self._office.change(body)
        return self._state

    async def page(self, nonce: str) -> str:
        """The page that shows the experiment."""
        return await self._office.page(nonce)

    async def _in_time(self, turn: Turn, on_text: OnText | None) -> Answer:
        limits: ServedArm = getattr(self._serve, turn.arm)
        admission, admitted = self._admission[turn.arm], False

        def heard(text: str) -> None:
            turn.first_text = turn.first_text or time.monotonic()
            if on_text is not None:
                on_text(text)

        try:
            async with asyncio.timeout(limits.deadline_seconds), admission.slot():
                admitted = True
                overheard = None if on_text is None else heard
                answer = await self._arms.answer(turn.arm, turn.prompt, turn.sampling, turn.seed, overheard)
            if on_text is not None:
                # An arm that does not stream sends its text once it is whole.
                turn.first_text = turn.first_text or time.monotonic()
            return answer
        except TimeoutError as error:
            late = f"no answer within {limits.deadline_seconds:g} s"
            if not admitted:
                raise Refused(f"{late}: too many requests wait", 503, admission.retry_after) from error
            raise Failed(late, 504) from error
        except EngineDied as error:
            raise Failed(f"the engine is gone: {error}", 503) from error
        except EngineError as error:
            raise UserError(str(error)) from error
        except (Refused, UserError):
            raise
        except Exception as error:  # A replica that was lost, or a bug in a method of the user's own.
            what = type(error).__name__
            log.error("request %s of %s failed: %s", turn.request_id, turn.arm, what, exc_info=self._serve.store_text)
            raise Failed(f"{type(error).__name__}: {_first_line(error)}", 500) from error

    def _record(self, turn: Turn, outcome: Outcome, error: str, answer: Answer | None) -> None:
        kept = self._serve.store_text
        messages = [dict(message) for message in turn.prompt.messages]
        event = RequestEvent(
            request_id=turn.request_id,
            time=turn.received,
            arm=turn.arm,
            version=turn.version,
            cluster=turn.cluster,
            outcome=outcome,
            seconds=turn.seconds,
            error=error if kept else kind_of(error),
            first_token_seconds=None if turn.first_text is None else turn.first_text - turn.start,
            prompt=json.dumps(messages, ensure_ascii=False) if kept else None,
        )
        if answer is not None:
            event = replace(
                event,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                cost=cost(self._serve.prices, answer.prompt_tokens, answer.completion_tokens),
                confidence=answer.confidence,
                escalated=answer.escalated,
                answer=answer.text if kept else None,
            )
        self._keep(event)
        self._ended.append(replace(event, prompt=None, answer=None))
        if self._metrics is not None:
            self._metrics.ended(event)

    def _keep(self, event: RequestEvent | ShadowEvent) -> None:
        try:
            self._store.add(event)
        except OSError:  # A full disk must not take the answer from the user.
            log.exception("event of request %s is lost", event.request_id)

    def _shadow(self, turn: Turn, answer: Answer) -> None:
        """Ask the other arm too, where that is due and nobody has to wait for it."""
        other = OTHER.get(turn.arm)
        due = turn.version is not None and self._random.random() < self._serve.shadow_share
        if other is None or not due or self._shadows >= self._serve.shadow_concurrent:
            return
        if self._admission[other].idle:
            self._spawn(self._ask_shadow(turn, other, answer))

    async def _ask_shadow(self, turn: Turn, other: Arm, answer: Answer) -> None:
        start, agreement, tokens, error = time.monotonic(), None, 0, ""
        self._shadows += 1
        try:
            try:
                async with asyncio.timeout(getattr(self._serve, other).deadline_seconds), self._admission[other].slot():
                    shadow = await self._arms.answer(other, turn.prompt, turn.sampling, turn.seed)
            finally:
                took = time.monotonic() - start
            tokens = shadow.completion_tokens
            agreement = await self._compare(turn, {turn.arm: answer.text, other: shadow.text})
        except Exception as failure:  # A shadow is for comparing only: whatever happens to it is data.
            error = f"{type(failure).__name__}: {_first_line(failure)}"
            error = error if self._serve.store_text else kind_of(error)
        finally:
            self._shadows -= 1
        of_request = turn.request_id, turn.received, turn.arm
        self._keep(ShadowEvent(*of_request, other, turn.cluster, agreement, took, tokens, error))

    async def _compare(self, turn: Turn, texts: Mapping[Arm, str]) -> float:
        # A judge is the base model.
        async with asyncio.timeout(self._serve.base.deadline_seconds), self._admission["base"].slot():
            return await self._arms.agreement(turn.prompt, texts["system1"], texts["system2"], turn.seed)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _sync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            ended, self._ended = self._ended, []
            try:
                self._state = await self._office.observe(ended)
            except Exception:  # It is being restarted: the weights stay as they are meanwhile.
                log.warning("the experiment's controller does not answer", exc_info=True)
                self._ended = [*ended, *self._ended][-REPORTED_AT_MOST:]
            if self._metrics is not None:
                self._report_load(self._metrics)

    def _report_load(self, metrics: Metrics) -> None:
        assert self._state is not None
        for arm, admission in self._admission.items():
            weight: float = getattr(self._state.weights, arm)
            metrics.load(arm, admission.answering, admission.waiting, weight)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._serve.flush_seconds)
            with suppress(OSError):  # The journal keeps them until it works again.
                await asyncio.to_thread(self._store.flush)
                await asyncio.to_thread(self._store.recover)


def _admission(serve: Serve, arm: Arm) -> Admission:
    """This gateway's share of an arm's limits. The base arm is answered by System 2's copies of the model."""
    limits: ServedArm = getattr(serve, arm)
    copies: ScaledArm = serve.system1 if arm == "system1" else serve.system2
    concurrent = limits.concurrent_requests * copies.max_replicas
    return Admission(ceil(concurrent / serve.gateways), ceil(limits.queued_requests / serve.gateways))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
