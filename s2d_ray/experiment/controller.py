"""The one place of an experiment that decides: live weights, guardrails, and the page that shows them."""

import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow.compute as pc

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.outages import impatient
from s2d_ray.errors import UserError
from s2d_ray.experiment.events import NOTHING_LOST, Lost, RequestEvent
from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.guardrails import GuardrailMonitor
from s2d_ray.experiment.page import Unstored, ab_page
from s2d_ray.experiment.recommendation import recommend
from s2d_ray.experiment.running import RunningSums
from s2d_ray.experiment.state import Change, ExperimentState, older_experiment, read_state
from s2d_ray.experiment.store import Snapshot
from s2d_ray.experiment.summary import summarise
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import RENAMED_ARMS
from s2d_ray.recipes.strict import parse

log = logging.getLogger(__name__)
KEEP_SECONDS = 600.0
"""How often the sums are kept: what came since is counted again after a kill."""


def events_folder(folders: RunFolders) -> Path:
    """Where the events of a run's experiment are stored."""
    return folders.serving / "events"


def refuse_older(folders: RunFolders) -> None:
    """Raises UserError where the results folder holds an experiment that this version cannot go on with."""
    if _state_file(folders).exists():
        read_state(_state_file(folders))
    arms, stored = pc.field("arm").isin(list(RENAMED_ARMS)), Snapshot(events_folder(folders))
    if stored.requests.count_rows(filter=arms):
        raise older_experiment(folders.serving)
    if stored.feedback.count_rows(filter=pc.field("arm").is_null()):
        raise UserError(
            f"{folders.serving} holds ratings of an older version, which do not say what they count for: move that "
            "folder away and serve again, which begins a new experiment"
        )


def _state_file(folders: RunFolders) -> Path:
    return folders.serving / "experiment.json"


class Controller:
    """One experiment. May be called from several threads."""

    def __init__(self, recipe: Recipe, folders: RunFolders) -> None:
        """Go on with the experiment of the results folder, or begin it there."""
        self._recipe, self._folders = recipe, folders
        self._experiment = Experiment(_state_file(folders), recipe.serve, datetime.now(UTC))
        self._monitor = GuardrailMonitor(recipe.serve.guardrails)
        self._lock, self._sums_lock = Lock(), Lock()
        self._sums: RunningSums | None = None
        self._kept = time.monotonic()
        self._unstored: Unstored | None = None

    @impatient()
    def state(self) -> ExperimentState:
        """The weights in force, and the ramp's next step taken where it is due."""
        with self._lock:
            self._experiment.refresh()
            return self._experiment.advance(datetime.now(UTC))

    @impatient()
    def change(self, body: Mapping[str, Any]) -> ExperimentState:
        """Do what a person asks for. Raises UserError where that is no change, OutOfDate, or OSError."""
        with self._lock:
            self._experiment.refresh()
            return self._experiment.apply(parse(Change, body, where="change"), datetime.now(UTC))

    @impatient()
    def observe(self, events: Iterable[RequestEvent], lost: Lost = NOTHING_LOST) -> ExperimentState:
        """Watch the guardrails over requests that have ended, and roll back where one is passed.

        `lost` is what a gateway could not store since it last said so.
        """
        with self._lock:
            self._experiment.refresh()
            if lost.events:
                now, before = datetime.now(UTC), self._unstored
                events_before, since = (before.events, before.since) if before else (0, now)
                self._unstored = Unstored(events_before + lost.events, lost.why, since, now)
            for event in events:
                reason = self._monitor.observe(event)
                # Requests of before a roll-back still come in after it.
                if reason and self._experiment.state.status != "rolled back":
                    log.warning("rolled back: %s", reason)
                    self._experiment.roll_back("guardrail", reason, datetime.now(UTC))
            return self._experiment.advance(datetime.now(UTC))

    @impatient()
    def page(self, nonce: str) -> str:
        """The experiment at this moment, as HTML. Quick, once what is stored has been counted for the first time."""
        state, now, serve = self.state(), datetime.now(UTC), self._recipe.serve
        with self._sums_lock:
            summary = summarise(self._running().refresh(), state, serve, now)
        rolled_back = state.status == "rolled back"
        recommendation = recommend(summary.difference, serve.margin, summary.failed_checks, rolled_back)
        return ab_page(self._recipe, state, summary, recommendation, now, nonce, self._unstored)

    @impatient()
    def tend(self) -> None:
        """Count what has come, and keep the store tidy. To be called every few seconds; it may take some."""
        with self._sums_lock:
            sums = self._running()
            sums.refresh()
            due = time.monotonic() - self._kept > KEEP_SECONDS
            if due:
                # Twice as long as anything may be rated, so that clocks may differ.
                sums.forget(time.time() - 2 * 3600 * self._recipe.serve.feedback_hours)
                self._kept = time.monotonic()
            copied = sums.copied() if due else {}
        # A view waits for neither.
        if copied:
            sums.write(copied)
        sums.merge()

    def close(self) -> None:
        """Keep the sums for the next server."""
        with self._sums_lock:
            if self._sums is not None:
                self._sums.keep()

    def _running(self) -> RunningSums:
        if self._sums is None:
            self._sums = RunningSums(events_folder(self._folders), lambda: read_state(_state_file(self._folders)))
        return self._sums
