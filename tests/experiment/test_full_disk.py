"""An experiment whose disk is full goes on: a roll-back is in force, and what is not stored is said."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.experiment.controller import Controller, events_folder
from s2d_ray.experiment.events import Lost, RequestEvent
from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.state import read_state
from s2d_ray.experiment.store import EventStore
from tests.experiment.test_experiment import HOUR, RAMPED, SERVE, change
from tests.experiment.test_page import words
from tests.experiment.test_store import journals, once, request, seen
from tests.experiment.traffic import START
from tests.serving.gateways import served_recipe
from tests.small_disk import NEEDS_ROOT, fill, small_disk

pytestmark = NEEDS_ROOT


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 256) as folder:
        yield folder


def test_a_roll_back_is_in_force_at_once_and_stored_once_there_is_room(disk: Path) -> None:
    path = disk / "experiment.json"
    experiment, other = Experiment(path, SERVE, START), Experiment(path, SERVE, START)
    filler = fill(disk)
    rolled_back = experiment.apply(change("roll back", 1), START + HOUR)
    assert (rolled_back.status, rolled_back.weights.student, rolled_back.version) == ("rolled back", 0.0, 2)
    assert rolled_back.unstored == "No space left on device"
    experiment.refresh()
    assert experiment.advance(START + 2 * HOUR) == rolled_back
    with pytest.raises(OSError, match="No space left"):
        experiment.apply(change("weights", 2, weights={"student": 0.1}), START + 2 * HOUR)
    assert experiment.state == rolled_back and read_state(path).version == 1
    filler.unlink()
    # What another server stored first is kept.
    other.apply(change("stop", 1), START + 3 * HOUR)
    experiment.refresh()
    assert experiment.state == read_state(path) and experiment.state.unstored == ""
    assert [revision.action for revision in experiment.state.revisions] == ["start", "stop", "roll back"]
    assert experiment.state.revisions[-1].at == START + HOUR
    experiment.refresh()
    assert experiment.state.version == 3


def test_a_step_of_the_ramp_waits_for_room(disk: Path) -> None:
    experiment = Experiment(disk / "experiment.json", RAMPED, START)
    filler = fill(disk)
    assert experiment.advance(START + 2 * HOUR).weights.student == 0.01
    filler.unlink()
    assert experiment.advance(START + 2 * HOUR).weights.student == 0.1


def test_guardrails_work_and_the_page_says_what_is_lost(disk: Path) -> None:
    controller = Controller(served_recipe(), RunFolders(disk))
    assert "stored" not in words(controller.page("n"))
    filler = fill(disk)
    failed = [RequestEvent(str(i), 0.0, "student", 1, i, "failed", 0.1) for i in range(40)]
    assert controller.observe(failed, Lost(40, "No space left on device")).status == "rolled back"
    page = words(controller.page("n"))
    assert "Events are not being stored: No space left on device 40 since" in page
    assert "This is in force and not stored yet (No space left on device)" in page
    filler.unlink()
    assert controller.observe([], Lost(2, "No space left on device")).version == 2
    page = words(controller.page("n"))
    assert "42 since" in page and "not stored yet" not in page


def test_what_is_said_of_lost_events_once_they_are_stored_again(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(served_recipe(), RunFolders(disk))
    controller.observe([], Lost(1, "No space left on device"))
    monkeypatch.setattr("s2d_ray.experiment.page.LASTING", timedelta(0))
    assert "Events were not stored: No space left on device 1 from" in words(controller.page("n"))


def test_a_store_takes_events_again_once_there_is_room_and_keeps_those_of_before(disk: Path) -> None:
    folder = events_folder(RunFolders(disk))
    store = EventStore(folder)
    store.add(request(0))
    filler = fill(disk)
    numbers = iter(range(1, 1000))
    with pytest.raises(OSError, match="No space left"):
        for number in numbers:
            store.add(request(number))
    last = next(numbers) - 1
    with pytest.raises(OSError, match="No space left"):
        store.flush()
    with pytest.raises(OSError, match="No space left"):
        store.add(request(last))
    # A server that starts on a full disk serves too.
    EventStore(folder).close()
    filler.unlink()
    store.add(request(last))
    assert seen(folder) == once(range(last + 1))
    store.close()
    EventStore(folder).close()
    assert seen(folder) == once(range(last + 1)) and journals(folder) == []
