"""Changes of the experiment: in force at once, kept over restarts, said by whom and why, never lost to each other."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.errors import UserError
from s2d_ray.experiment.experiment import Experiment, OutOfDate
from s2d_ray.experiment.state import Change, ExperimentState, read_state
from s2d_ray.recipes.serve import RampStep, Serve, Weights
from s2d_ray.recipes.strict import parse
from tests.experiment.traffic import START

RAMP = (RampStep(student=0.01, hours=1), RampStep(student=0.1, hours=24))
SERVE = Serve(weights=Weights(student=0.5, base=0.05))
RAMPED = SERVE.model_copy(update={"ramp": RAMP})
HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serving" / "experiment.json"


def change(action: str, version: int, **fields: Any) -> Change:
    return parse(Change, {"action": action, "who": "ada", "why": "a try", "version": version, **fields}, "change")


def test_it_starts_with_the_weights_of_the_recipe(path: Path) -> None:
    state = Experiment(path, SERVE, START).state
    assert (state.status, state.weights, state.version, state.started) == ("running", SERVE.weights, 1, START)
    assert state.ramp_from is None
    assert read_state(path) == state


def test_a_change_is_in_force_and_on_disk_with_who_when_and_why(path: Path) -> None:
    experiment = Experiment(path, SERVE, START)
    state = experiment.apply(change("weights", 1, weights={"student": 0.2}), START + HOUR)
    assert state == experiment.state == read_state(path)
    assert (state.weights, state.status) == (Weights(student=0.2), "running")
    revision = state.revisions[-1]
    assert (revision.version, revision.who, revision.why, revision.at) == (2, "ada", "a try", START + HOUR)
    assert (revision.action, revision.weights) == ("weights", state.weights)


def test_a_restart_goes_on_with_the_weights_in_force(path: Path) -> None:
    experiment = Experiment(path, SERVE, START)
    before = experiment.apply(change("weights", 1, weights={"student": 0.2}), START + HOUR)
    assert Experiment(path, SERVE, START + 2 * HOUR).state == before


def test_weights_changed_in_the_recipe_come_into_force_at_a_restart(path: Path) -> None:
    Experiment(path, SERVE, START).roll_back("guardrail", "errors", START + HOUR)
    other = SERVE.model_copy(update={"weights": Weights(student=0.3)})
    state = Experiment(path, other, START + 2 * HOUR).state
    assert (state.status, state.weights, state.version) == ("running", Weights(student=0.3), 3)
    assert [revision.who for revision in state.revisions] == ["recipe", "guardrail", "recipe"]
    assert state.started == START


def test_the_ramp_climbs_by_the_clock_and_keeps_the_base_arm(path: Path) -> None:
    experiment = Experiment(path, RAMPED, START)
    seen = {}
    for hours in (0, 0.9, 1, 24.9, 25, 100):
        state = experiment.advance(START + hours * HOUR)
        seen[hours] = (state.weights.student, state.weights.base)
    assert seen == {
        0: (0.01, 0.05),
        0.9: (0.01, 0.05),
        1: (0.1, 0.05),
        24.9: (0.1, 0.05),
        25: (0.5, 0.05),
        100: (0.5, 0.05),
    }
    assert [revision.why for revision in experiment.state.revisions[1:]] == [
        "Distilled System 1 to 10%",
        "Distilled System 1 to 50%, the end of the ramp",
    ]
    assert experiment.state.ramp_from is None


def test_the_ramp_goes_on_after_a_restart_where_it_would_be(path: Path) -> None:
    Experiment(path, RAMPED, START)
    state = Experiment(path, RAMPED, START + 3 * HOUR).advance(START + 3 * HOUR)
    assert state.weights.student == 0.1
    assert Experiment(path, RAMPED, START + 30 * HOUR).advance(START + 30 * HOUR).weights.student == 0.5


@pytest.mark.parametrize("action", ["weights", "stop", "roll back"])
def test_whoever_takes_over_ends_the_ramp(path: Path, action: str) -> None:
    experiment = Experiment(path, RAMPED, START)
    state = experiment.apply(change(action, 1, weights={"student": 0.02}), START)
    assert experiment.advance(START + 50 * HOUR) == state


def test_stop_keeps_the_weights_and_roll_back_does_not(path: Path) -> None:
    experiment = Experiment(path, SERVE, START)
    stopped = experiment.apply(change("stop", 1), START)
    assert (stopped.status, stopped.weights) == ("stopped", SERVE.weights)
    back = experiment.apply(change("roll back", 2), START)
    assert (back.status, back.weights.teacher) == ("rolled back", 1)
    again = experiment.apply(change("weights", 3, weights={"student": 0.1}), START)
    assert (again.status, again.weights.student) == ("running", 0.1)


def test_a_change_made_from_an_old_page_is_refused_but_a_roll_back_never_is(path: Path) -> None:
    experiment = Experiment(path, SERVE, START)
    experiment.apply(change("weights", 1, weights={"student": 0.2}), START)
    for late in (change("weights", 1, weights={"student": 0.9}), change("stop", 1)):
        with pytest.raises(OutOfDate, match=r"ada has changed the experiment since \(a try\): reload the page"):
            experiment.apply(late, START)
    assert experiment.state.version == 2
    assert experiment.apply(change("roll back", 1), START).weights.teacher == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"who": "  "}, "who: String should have at least 1 character"),
        ({"why": "x" * 301}, "why: String should have at most 300 characters"),
        ({"weights": {"student": 0.7, "base": 0.4}}, "weights: student 0.7 and base 0.4 add up to more than 1"),
        ({"weights": {"studnet": 0.7}}, "unknown key weights.studnet: did you mean student?"),
        ({"action": "delete"}, "action: Input should be 'weights', 'stop' or 'roll back'"),
    ],
)
def test_a_change_that_says_too_little_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        change(**{"action": "weights", "version": 1, **fields})
    assert problem in str(caught.value)


def test_a_change_of_weights_without_weights_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="a change of weights needs `weights`"):
        Experiment(path, SERVE, START).apply(change("weights", 1), START)


def test_a_crash_while_writing_leaves_the_state_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(path, SERVE, START)
    before = experiment.state

    def crash(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no space"):
        experiment.apply(change("stop", 1), START)
    assert experiment.state == read_state(path) == before


def test_a_file_that_is_no_state_is_refused(path: Path) -> None:
    Experiment(path, SERVE, START)
    path.write_text(path.read_text().replace('"status": "running"', '"status": "odd"'))
    with pytest.raises(UserError, match=r"experiment\.json: status: Input should be 'running'"):
        Experiment(path, SERVE, START)


def test_the_state_round_trips_as_json(path: Path) -> None:
    state = Experiment(path, RAMPED, START).state
    assert ExperimentState.model_validate_json(state.model_dump_json()) == state
