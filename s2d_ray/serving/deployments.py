"""The experiment on Ray Serve: engines, one controller, and gateways that take in the requests.

client → gateway (assigns, admits, runs the arm's method, stores) → engine of the base model or the student
                            └─ every second: what has ended → controller (weights, guardrails, page)
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException, RequestCancelledError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from starlette.applications import Starlette

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Completion, Message
from s2d_ray.experiment.controller import Controller, events_folder
from s2d_ray.experiment.events import Lost, RequestEvent
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.inference.engine import EngineDied, RunningEngine
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.inference.start import start_engine
from s2d_ray.methods.direct import direct
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.recipes.serve import ScaledArm
from s2d_ray.serving.auth import Access
from s2d_ray.serving.background import BackgroundWork
from s2d_ray.serving.gateway import Gateway
from s2d_ray.serving.http import build_app
from s2d_ray.serving.prometheus import RayMetrics
from s2d_ray.serving.responders import Confidence, Responder, Responders
from s2d_ray.serving.tending import tend_for_ever
from s2d_ray.stages.placement import engine_device, engine_options
from s2d_ray.tasks.registry import load_task

UNLIMITED = 100_000
"""Requests that Ray Serve lets a replica have: the gateways' limits are the ones that count."""
DRAIN_SECONDS = 10.0
"""Beyond the longest deadline, for what a replica has to do after its last request."""


@dataclass(frozen=True)
class Served:
    """A finished run, ready to be served. Pickled to every replica."""

    recipe: Recipe
    folders: RunFolders
    base: Path
    """The base model's folder."""
    student: Path
    """The distilled model's folder."""
    access: Access
    confidence: Confidence | None = None
    """None without a cascade."""
    adapter: Path | None = None
    """Of the student over the base model, where the training left one."""


def application(served: Served) -> serve.Application:
    """The deployments of a run. Ray must be joined, since whether there are GPUs decides about placement."""
    settings = served.recipe.serve
    controller = _deployment("controller", ControllerReplica, served).bind(served.recipe, served.folders)
    if _shares(served):
        base = student = _engine("engine", served, settings.teacher).bind(served, served.base, served.adapter)
    else:
        student = _engine("student", served, settings.student).bind(served, served.student)
        base = _engine("base", served, settings.teacher).bind(served, served.base)
    gateway = _deployment("gateway", serve.ingress()(GatewayReplica), served).options(num_replicas=settings.gateways)
    app: serve.Application = gateway.bind(served, student, base, controller, _shares(served))
    return app


def _shares(served: Served) -> bool:
    """Whether one engine is both models."""
    wanted = served.recipe.serve.shared_engine
    if wanted is None:
        engine = served.recipe.engine
        return served.adapter is not None and engine.kind == "vllm" and engine_device(engine) == "gpu"
    return wanted


def _engine(name: str, served: Served, arm: ScaledArm) -> Any:
    engine = served.recipe.engine
    deployment = _deployment(name, EngineReplica, served).options(**_place(engine))
    if arm.min_replicas == arm.max_replicas:
        return deployment.options(num_replicas=arm.max_replicas)
    scaling = {
        "min_replicas": arm.min_replicas,
        "max_replicas": arm.max_replicas,
        "target_ongoing_requests": arm.concurrent_requests,
        "downscale_delay_s": arm.scale_down_seconds,
    }
    return deployment.options(autoscaling_config=scaling)


def _place(engine: Engine) -> dict[str, Any]:
    """Where Ray Serve puts a replica: an engine that may be on several nodes has a placement group."""
    device = engine_device(engine)
    if engine.kind == "scripted" and device == "cpu":
        return {"ray_actor_options": {"num_cpus": 0}}
    bundles = engine.bundles(device)
    group = {"placement_group_bundles": bundles, "placement_group_strategy": "PACK"}
    return {"ray_actor_options": engine_options(bundles)} | (group if len(bundles) > 1 else {})


def _deployment(name: str, replica: type, served: Served) -> Any:
    settings = served.recipe.serve
    longest = max(arm.deadline_seconds for arm in (settings.student, settings.teacher, settings.base))
    return serve.deployment(
        name=name,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=UNLIMITED,
        graceful_shutdown_timeout_s=longest + DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=LoggingConfig(enable_access_log=False),
    )(replica)


class EngineReplica:
    """One copy of a model, with an adapter for those who ask for it."""

    # Ray Serve awaits it: an engine belongs to the event loop that it is started in.
    async def __init__(self, served: Served, model: Path, adapter: Path | None = None) -> None:  # type: ignore[misc]
        recipe = served.recipe
        self._engine = await start_engine(
            recipe.answering_engine, model, recipe.trust_remote_code, adapter, recipe.chat
        )
        self._engines: Mapping[bool, RunningEngine] = {False: self._engine}
        if adapter is not None:
            self._engines = {False: self._engine, True: self._engine.adapted()}

    async def complete(
        self, adapted: bool, messages: Sequence[Message], sampling: Sampling, n: int, seed: int
    ) -> list[Completion]:
        """As the engine."""
        return await self._engines[adapted].complete(messages, sampling, n, seed)

    async def stream(
        self, adapted: bool, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """As the engine."""
        async with aclosing(self._engines[adapted].stream(messages, sampling, seed)) as pieces:
            async for piece in pieces:
                yield piece

    async def started(self) -> None:
        """Returns once there is an engine."""

    def check_health(self) -> None:
        """Raises where the engine is gone, so that Ray Serve replaces the replica."""
        if not all(engine.alive for engine in self._engines.values()):
            raise EngineDied("the engine process has ended or gives no more tokens")

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


class RemoteEngine:
    """The engines of a deployment, as one."""

    def __init__(self, handle: DeploymentHandle[Any], adapted: bool = False) -> None:
        self._adapted = adapted
        self._complete = handle.complete
        self._stream = handle.options(stream=True).stream

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        """As the engine. Raises EngineDied where the replica is lost on the way."""
        response: Any = self._complete.remote(self._adapted, messages, sampling, n, seed)
        with _engine_errors():
            try:
                completions: list[Completion] = await response
                return completions
            except asyncio.CancelledError:
                response.cancel()
                raise

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        """As the engine. Raises EngineDied where the replica is lost on the way."""
        pieces: Any = self._stream.remote(self._adapted, messages, sampling, seed)
        with _engine_errors():
            try:
                async for piece in pieces:
                    yield piece
            finally:
                pieces.cancel()


@contextmanager
def _engine_errors() -> Iterator[None]:
    """What the engine raised, as it raised it; a lost replica is a dead engine."""
    try:
        yield
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except RequestCancelledError:  # Only we can have done that, where the client has gone away.
        raise asyncio.CancelledError from None
    except (RayActorError, RayServeException) as error:
        raise EngineDied(f"its replica was lost ({type(error).__name__})") from error


class ControllerReplica:
    """The experiment's only writer."""

    # Ray Serve awaits it.
    async def __init__(self, recipe: Recipe, folders: RunFolders) -> None:  # type: ignore[misc]
        self._controller = Controller(recipe, folders)
        # Views may have to wait for a count: however many they are, one thread, so that guardrails and people can act.
        self._viewing = asyncio.Lock()
        self._background = BackgroundWork()
        self._background.start(tend_for_ever(self._controller))

    def __del__(self) -> None:
        if hasattr(self, "_controller"):
            self._controller.close()

    async def observe(self, events: Sequence[RequestEvent], lost: Lost) -> ExperimentState:
        """As the controller."""
        return await asyncio.to_thread(self._controller.observe, events, lost)

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """As the controller."""
        return await asyncio.to_thread(self._controller.change, body)

    async def page(self, nonce: str) -> str:
        """As the controller."""
        async with self._viewing:
            return await asyncio.to_thread(self._controller.page, nonce)


class RemoteController:
    """The controller, from a gateway."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def observe(self, events: Sequence[RequestEvent], lost: Lost) -> ExperimentState:
        """As the controller."""
        state: ExperimentState = await self._ask(self._handle.observe, events, lost)
        return state

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """As the controller."""
        state: ExperimentState = await self._ask(self._handle.change, body)
        return state

    async def page(self, nonce: str) -> str:
        """As the controller."""
        html: str = await self._ask(self._handle.page, nonce)
        return html

    async def _ask(self, method: Any, *arguments: object) -> Any:
        try:
            return await method.remote(*arguments)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None


class GatewayReplica:
    """Takes in the requests."""

    # Ray Serve awaits it.
    async def __init__(  # type: ignore[misc]
        self,
        served: Served,
        student: DeploymentHandle[Any],
        base: DeploymentHandle[Any],
        controller: DeploymentHandle[Any],
        shared: bool,
    ) -> None:
        # Their log is the replica's, which Ray keeps.
        logging.getLogger("s2d_ray").setLevel(logging.INFO)
        recipe = served.recipe
        # No request is taken in before it can be answered; a gateway that this one replaces goes on until then.
        for engines, arm in ((student, recipe.serve.student), (base, recipe.serve.teacher)):
            if arm.min_replicas:
                await engines.started.remote()
        task, of_base = load_task(recipe.task), RemoteEngine(base)
        judge = None
        if recipe.serve.shadow_judge is not None:
            sampling = recipe.evaluate.sampling.model_copy(update={"max_tokens": recipe.serve.max_tokens})
            judge = PairwiseJudge(load_method(recipe.serve.shadow_judge), of_base, sampling)
        responders = Responders(
            task,
            {
                "base": Responder(direct, of_base, streams=True),
                "teacher": Responder(load_method(recipe.method), of_base, streams=False),
                "student": Responder(direct, RemoteEngine(student, adapted=shared), streams=True),
            },
            served.confidence,
            judge,
        )
        events = events_folder(served.folders)
        self._gateway = Gateway(recipe, task, responders, RemoteController(controller), events, RayMetrics())
        self._served = served

    def __serve_build_asgi_app__(self) -> Starlette:
        settings = self._served.recipe.serve
        return build_app(self._gateway, self._served.access, settings.max_body_kib * 1024)
