"""A gateway's side of the experiment: it reports what has ended to the controller, and learns the weights in force."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from s2d_ray.experiment.events import NOTHING_LOST, Lost, RequestEvent
from s2d_ray.experiment.state import ExperimentState

log = logging.getLogger(__name__)
REPORTED_AT_MOST = 10_000
"""Requests kept for a report that cannot be made, the latest ones."""


class ControllerClient(Protocol):
    """The experiment's controller, wherever it runs."""

    async def observe(self, events: Sequence[RequestEvent], lost: Lost) -> ExperimentState:
        """Report requests that have ended, and events that were not stored; the state in force."""
        ...

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """Change the experiment; the state in force after that."""
        ...

    async def page(self, nonce: str) -> str:
        """The page that shows it."""
        ...


class ExperimentSync:
    """The experiment as this gateway knows it. Lives in one event loop."""

    def __init__(self, controller: ControllerClient) -> None:
        self._controller = controller
        self._state: ExperimentState | None = None
        self._ended: list[RequestEvent] = []
        self._lost = NOTHING_LOST

    @property
    def state(self) -> ExperimentState:
        """As last learnt; there is none before `open`."""
        assert self._state is not None
        return self._state

    async def open(self) -> None:
        """Learn the weights. Raises what the controller raises."""
        self._state = await self._controller.observe((), NOTHING_LOST)

    def report(self, event: RequestEvent) -> None:
        """Keep a request that has ended for the next `sync`."""
        self._ended.append(event)

    def lose(self, why: str) -> None:
        """Count an event that could not be stored, for the next `sync`."""
        self._lost = Lost(self._lost.events + 1, why)

    async def sync(self) -> None:
        """Report what has ended and learn the weights; where that fails, they stay and the report is made later."""
        ended, self._ended = self._ended, []
        lost, self._lost = self._lost, NOTHING_LOST
        try:
            self._state = await self._controller.observe(ended, lost)
        except Exception:  # The boundary to the controller: whatever keeps it from answering, requests go on.
            log.warning("the experiment's controller does not answer", exc_info=True)
            self._ended = [*ended, *self._ended][-REPORTED_AT_MOST:]
            self._lost = Lost(lost.events + self._lost.events, self._lost.why or lost.why)

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """Change the experiment, for this gateway at once and for others within a second."""
        self._state = await self._controller.change(body)
        return self._state

    async def page(self, nonce: str) -> str:
        """The page that shows the experiment."""
        return await self._controller.page(nonce)
