"""The live experiment: changes of the weights in force, each recorded with who, when and why.

One file holds it all, replaced as a whole at each change, so that it survives any restart. While a server is replaced
two processes write it: a change names the version it was made from and is refused if that is out of date, so that
neither two servers nor two people at two pages undo each other unknowingly. Others read it with `read_state`.
Where the file cannot be written, what was in force stays so and a change is refused; but a roll-back is in force at
once, and written as soon as that can be done.
"""

import errno
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from s2d_ray.arms import LABELS
from s2d_ray.data.files import update_json
from s2d_ray.errors import UserError
from s2d_ray.experiment.state import (
    ALL_TO_TEACHER,
    Action,
    Change,
    ExperimentState,
    Revision,
    WeightSchedule,
    read_state,
)
from s2d_ray.recipes.serve import Serve
from s2d_ray.recipes.strict import parse


class OutOfDate(UserError):
    """The experiment was changed since the page that asks for this change was loaded."""


class Experiment:
    """A writer of an experiment's state. A change is on disk before it is returned, or its state says `unstored`."""

    def __init__(self, path: Path, serve: Serve, now: datetime) -> None:
        """Go on with what `path` holds, or start there.

        The recipe's weights and ramp come into force at the start, and again if the recipe has others than it had
        then. Otherwise those in force when the last server ended still are.
        """
        self._path = path
        self._unwritten: tuple[str, str, datetime] | None = None
        """The roll-back that is in force and not in the file: who, why and when."""
        self._schedule = WeightSchedule(weights=serve.weights, ramp=serve.ramp)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(OutOfDate):  # Another server was quicker: go on with what it wrote.
                self._open(now)
                return

    def _open(self, now: datetime) -> None:
        if not self._path.exists():
            self._begin("start", (), now, "the experiment starts")
            return
        self._state = read_state(self._path)
        if self._state.schedule != self._schedule:
            self._begin("weights", self._state.revisions, now, "the recipe's weights or ramp were changed")

    @property
    def state(self) -> ExperimentState:
        """What is in force."""
        return self._state

    def refresh(self) -> None:
        """Take over what another writer left: while a server is replaced, both it and its successor live.

        Where the file cannot be read just now, what was in force stays so.
        """
        if self._reload() and self._unwritten:
            self.roll_back(*self._unwritten)

    def _reload(self) -> bool:
        """Whether the file could be read."""
        try:
            self._state = read_state(self._path)
        except FileNotFoundError:
            raise
        except OSError:
            return False
        return True

    def apply(self, change: Change, now: datetime) -> ExperimentState:
        """Do what a person asks for. A roll-back always goes through.

        Raises OutOfDate where another change came first, UserError where the new weights are missing, and OSError where
        it cannot be stored.
        """
        if change.action == "roll back":
            return self.roll_back(change.who, change.why, now)
        if self._state.unstored:
            raise OSError(errno.EIO, self._state.unstored, str(self._path))
        last = self._state.revisions[-1]
        if change.version != last.version:
            raise OutOfDate(f"{last.who} has changed the experiment since ({last.why}): reload the page")
        if change.action == "stop":
            return self._record("stop", change.who, change.why, now, status="stopped", ramp_from=None)
        if change.weights is None:
            raise UserError("a change of weights needs `weights`, such as {student: 0.1}")
        return self._record(
            "weights", change.who, change.why, now, status="running", weights=change.weights, ramp_from=None
        )

    def roll_back(self, who: str, why: str, now: datetime) -> ExperimentState:
        """Send every user to the teacher, until a person sets weights again. Whatever the disk does, it is in force."""
        self._unwritten = who, why, now
        changed = {"status": "rolled back", "weights": ALL_TO_TEACHER, "ramp_from": None}
        while True:
            state = self._changed("roll back", who, why, now, **changed)
            try:
                self._write(state)
                self._unwritten = None
            except OutOfDate:
                self._reload()
                continue
            except OSError as error:
                self._state = state.model_copy(update={"unstored": error.strerror or str(error)})
            return self._state

    def advance(self, now: datetime) -> ExperimentState:
        """Take the ramp's next step if its time has come and it can be stored. To be called every few seconds."""
        state = self._state
        if state.ramp_from is None:
            return state
        passed = now - state.ramp_from
        weights, ended = state.schedule.after(passed), state.schedule.ended(passed)
        if weights == state.weights and not ended:
            return state
        why = f"{LABELS['student']} to {weights.student:.0%}{', the end of the ramp' if ended else ''}"
        with suppress(OutOfDate, OSError):
            ramp_from = None if ended else state.ramp_from
            return self._record("ramp", "recipe", why, now, weights=weights, ramp_from=ramp_from)
        self.refresh()
        return self._state

    def _begin(self, action: Action, revisions: tuple[Revision, ...], now: datetime, why: str) -> None:
        schedule = self._schedule
        weights = schedule.after(timedelta(0))
        revision = Revision(version=len(revisions) + 1, at=now, who="recipe", action=action, why=why, weights=weights)
        ramp_from = now if schedule.ramp else None
        self._write(
            ExperimentState(
                status="running",
                weights=weights,
                schedule=schedule,
                ramp_from=ramp_from,
                revisions=(*revisions, revision),
            )
        )

    def _record(self, action: Action, who: str, why: str, now: datetime, **changed: Any) -> ExperimentState:
        return self._write(self._changed(action, who, why, now, **changed))

    def _changed(self, action: Action, who: str, why: str, now: datetime, **changed: Any) -> ExperimentState:
        state = self._state.model_copy(update={**changed, "unstored": ""})
        revision = Revision(version=state.version + 1, at=now, who=who, action=action, why=why, weights=state.weights)
        return state.model_copy(update={"revisions": (*state.revisions, revision)})

    def _write(self, state: ExperimentState) -> ExperimentState:
        """Raises OutOfDate where the file does not hold the version before it."""
        new, tried = state.model_dump(mode="json"), False

        def next_version(content: Any) -> object:
            nonlocal tried
            if tried and content == new:  # It was heard the first time, and the answer lost.
                return new
            tried = True
            before = 0 if content is None else parse(ExperimentState, content, where=str(self._path)).version
            if before != state.version - 1:
                raise OutOfDate("another server has changed the experiment since: reload the page")
            return new

        update_json(self._path, next_version)
        self._state = state
        return state
