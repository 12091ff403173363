"""One gateway: everything between HTTP and the engines, put together, opened and closed."""

import asyncio
from pathlib import Path
from typing import Protocol

from s2d_ray.arms import CoreArm
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.experiment.request_ids import open_request_ids
from s2d_ray.experiment.store import EventStore
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.serving.admission import admissions
from s2d_ray.serving.background import BackgroundWork
from s2d_ray.serving.experiment_sync import ControllerClient, ExperimentSync
from s2d_ray.serving.feedback import FeedbackTaker
from s2d_ray.serving.recorder import RequestRecorder
from s2d_ray.serving.responders import Responders
from s2d_ray.serving.router import Router
from s2d_ray.serving.shadows import ShadowRunner
from s2d_ray.tasks.task import Task

SYNC_SECONDS = 1.0
"""How often a gateway reports what has ended, and learns which weights are in force."""


class Metrics(Protocol):
    """Counts for whoever watches the servers."""

    def ended(self, event: RequestEvent) -> None: ...

    def load(self, arm: CoreArm, answering: int, waiting: int, weight: float) -> None: ...


class Gateway:
    """Lives in one event loop."""

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        responders: Responders,
        controller: ControllerClient,
        events: Path,
        metrics: Metrics | None = None,
    ) -> None:
        self._flush_seconds, self._metrics = recipe.serve.flush_seconds, metrics
        self._background = BackgroundWork()
        self.admission = admissions(recipe.serve)
        self.experiment = ExperimentSync(controller)
        listeners = [self.experiment.report] if metrics is None else [self.experiment.report, metrics.ended]
        self.recorder = RequestRecorder(EventStore(events), recipe.serve, listeners, self.experiment.lose)
        shadows = ShadowRunner(recipe.serve, responders, self.admission, self.recorder, self._background)
        request_ids = open_request_ids(events.parent / "request-ids.json")
        self.feedback = FeedbackTaker(recipe.serve, request_ids, self.recorder)
        self.router = Router(
            recipe, task, responders, self.admission, self.experiment, self.recorder, shadows, request_ids
        )

    async def open(self) -> None:
        """Learn the weights, and keep learning them. Before that nothing can be answered."""
        await self.experiment.open()
        self._background.start(self._sync_for_ever())
        self._background.start(self._flush_for_ever())

    async def close(self) -> None:
        """Store what is left."""
        await self._background.stop()
        await asyncio.to_thread(self.recorder.close)

    async def _sync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            await self.experiment.sync()
            if self._metrics is not None:
                self._report_load(self._metrics)

    def _report_load(self, metrics: Metrics) -> None:
        for arm, admission in self.admission.items():
            weight: float = getattr(self.experiment.state.weights, arm)
            metrics.load(arm, admission.answering, admission.waiting, weight)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            await asyncio.to_thread(self.recorder.flush)
