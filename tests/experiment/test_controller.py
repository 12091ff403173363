"""An experiment that another controller writes too, as while a server is replaced, or that an older version left."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.errors import UserError
from s2d_ray.experiment.controller import Controller, events_folder, refuse_older
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.experiment.store import EventStore
from tests.serving.gateways import served_recipe


def test_a_roll_back_by_the_one_is_kept_by_the_other(tmp_path: Path) -> None:
    before, after = (Controller(served_recipe(), RunFolders(tmp_path)) for _ in range(2))
    failed = [RequestEvent(str(i), 0.0, "student", 1, i, "failed", 0.1) for i in range(40)]
    rolled_back = before.observe(failed)
    assert (rolled_back.status, rolled_back.version) == ("rolled back", 2)
    assert after.state() == rolled_back
    change = {"action": "weights", "weights": {"student": 0.1}, "who": "ada", "why": "again", "version": 2}
    assert before.observe(failed).version == 2, "rolled back twice"
    assert after.change(change).version == 3
    assert before.observe([]).version == 3
    assert before.state().weights.student == 0.1


def written_before(folders: RunFolders, arm: Any, flushed: bool) -> EventStore:
    """A store with one request to the arm, in a part or only in the journal."""
    store = EventStore(events_folder(folders))
    store.add(RequestEvent("s2d-1", 0.0, arm, 1, 0, "answered", 0.1))
    if flushed:
        store.flush()
    return store


@pytest.mark.parametrize("flushed", [True, False])
def test_events_of_an_older_version_are_refused(tmp_path: Path, flushed: bool) -> None:
    store = written_before(RunFolders(tmp_path), "system1", flushed)
    with pytest.raises(UserError) as caught:
        refuse_older(RunFolders(tmp_path))
    store.close()
    assert str(caught.value).startswith(f"{tmp_path / 'serving'} holds an experiment of an older version")
    assert "student (was system1) and teacher (was system2): move that folder away" in str(caught.value)


def test_a_state_of_an_older_version_is_refused(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    Controller(served_recipe(), folders)
    refuse_older(folders)
    path = folders.serving / "experiment.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"weights": {"system1": 0.5, "base": 0.0}}))
    for meets_it in (lambda: refuse_older(folders), lambda: Controller(served_recipe(), folders)):
        with pytest.raises(UserError, match=r"serving holds an experiment of an older version.*move that folder away"):
            meets_it()


def test_what_this_version_wrote_is_not_refused(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    refuse_older(folders)
    for arm in ("base", "teacher", "student"):
        written_before(folders, arm, flushed=True).close()
    refuse_older(folders)
