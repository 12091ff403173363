"""A run's folder says how the last attempt at it ended, where, and why."""

import signal
from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json
from s2d_ray.data.lease import time_spent
from s2d_ray.data.manifests import CandidatesManifest
from s2d_ray.data.status import STATUS, RunStatus, attempting
from s2d_ray.errors import UserError
from tests.data.attempts import another_process


def status(folder: Path) -> dict[str, object]:
    found: dict[str, object] = read_json(folder / "status.json")
    assert found.pop("schema_version") == 1
    found.pop("ended")
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_is_recorded_as_stopped_with_the_stage(tmp_path: Path, number: signal.Signals) -> None:
    with another_process(tmp_path) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
    assert status(tmp_path) == {"status": "stopped", "attempt": 1, "stage": "generate"}
    with attempting(tmp_path, silence=60):
        pass  # Not kept waiting: the stopped one has said that it is over.


def test_a_failure_is_recorded_with_stage_and_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), attempting(tmp_path) as attempt, attempt.stage("train"):
        raise ValueError("no luck,\nat all")
    assert status(tmp_path) == {
        "status": "failed",
        "attempt": 1,
        "stage": "train",
        "error": "ValueError: no luck, at all",
    }
    with pytest.raises(UserError), attempting(tmp_path):
        raise UserError("no such model")
    assert status(tmp_path) == {"status": "failed", "attempt": 2, "stage": "prepare", "error": "no such model"}


def test_a_status_names_the_round_and_the_part_of_a_mixture(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "round-2" / "parts" / "judge" / "candidates", {}, CandidatesManifest)
    with pytest.raises(UserError), attempting(tmp_path) as attempt, attempt.stage("generate", 2):
        artifact.open()
        attempt.use_gpus(0)
        raise UserError("no luck")
    where = {"stage": "generate", "round": 2, "part": "judge"}
    assert status(tmp_path) == {"status": "failed", "attempt": 1, **where, "error": "no luck"}
    about = read_json(tmp_path / "attempts" / "00001.json")
    assert time_spent(tmp_path).keys() == {"round-2/parts/judge/candidates"}
    assert about["state"] == "failed"


def test_there_is_no_status_while_an_attempt_is_at_work(tmp_path: Path) -> None:
    with attempting(tmp_path):
        pass
    with attempting(tmp_path):
        assert not (tmp_path / "status.json").exists()


def test_a_status_is_read_as_it_was_written_and_one_of_before_too(tmp_path: Path) -> None:
    with attempting(tmp_path):
        pass
    found = RunStatus.read(tmp_path / STATUS)
    assert (found.status, found.attempt, found.stage) == ("succeeded", 1, None)
    (tmp_path / STATUS).write_text(
        '{"status": "failed", "attempt": 3, "ended": "2026-01-01T00:00:00+00:00", "stage": "train", "error": "no luck"}'
    )
    assert RunStatus.read(tmp_path / STATUS).error == "no luck"
