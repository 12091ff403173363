"""One attempt at a time owns a results folder, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json
from s2d_ray.data.lease import Replaced, time_spent
from s2d_ray.data.manifests import CandidatesManifest
from s2d_ray.data.status import STATUS, RunStatus, attempting
from s2d_ray.errors import UserError
from tests.data.attempts import AT_WORK, REPOSITORY, another_process
from tests.manifests import candidates_manifest, write_lease


def test_a_second_attempt_is_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path: Path) -> None:
    with another_process(tmp_path) as first:
        with (
            pytest.raises(UserError, match=rf"attempt 1 \(process {first.pid} on .*is at work in .*stop it"),
            attempting(tmp_path),
        ):
            pass
        assert not (tmp_path / "status.json").exists(), "a refused attempt says nothing about the other's work"
        first.kill()
        first.wait()
        with attempting(tmp_path) as second:
            assert second.number == 2
    assert RunStatus.read(tmp_path / STATUS).attempt == 2


def test_an_attempt_on_another_machine_is_alive_while_its_file_changes(tmp_path: Path) -> None:
    file = write_lease(tmp_path, {}, 4)
    over = threading.Event()

    def live() -> None:
        beats = 0
        while not over.wait(0.1):
            beats += 1
            write_lease(tmp_path, {"candidates": {"seconds": beats, "gpu_seconds": 0}}, 4)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(UserError, match=r"attempt 4 .*on far"), attempting(tmp_path, silence=5):
            pass
    finally:
        over.set()
        thread.join()
    before = file.read_bytes()
    with attempting(tmp_path, silence=0.5) as attempt:
        assert attempt.number == 5
    assert file.read_bytes() == before, "each attempt writes its own file only"


@pytest.mark.parametrize("content", [b"", b'{"attempt": 1, "ho', bytes(40)])
def test_one_that_has_not_written_yet_or_only_half_is_waited_for_and_no_longer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "00001.json").write_bytes(content)
    start = time.monotonic()
    with attempting(tmp_path, silence=0.6) as attempt:
        assert attempt.number == 2
        assert time.monotonic() - start >= 0.6
    assert time_spent(tmp_path) == {}


@pytest.mark.slow
def test_of_many_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    # Each waits, with everything imported, for one moment; the one at work until it is told to end.
    together = 'print("ready", flush=True)\nmoment = float(sys.stdin.readline())\nwhile time.time() < moment: pass\n'
    program = AT_WORK.replace("with attempting", f"{together}with attempting")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program.replace("time.sleep(60)", "sys.stdin.readline()"), str(tmp_path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    moment = time.time() + 0.5
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{moment}\n")
        process.stdin.flush()
    deadline = time.monotonic() + 60
    while sum(process.poll() is None for process in processes) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    said = [process.communicate("end\n")[0] for process in processes]
    assert sorted(said) == [""] * 5 + ["at work\n"]
    assert sorted(process.returncode for process in processes) == [0] + [1] * 5


def test_a_replaced_attempt_writes_no_manifest_and_no_status(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "candidates", {"seed": 0}, CandidatesManifest)
    replaced = pytest.raises(Replaced, match="attempt 2 has taken over")
    with replaced, attempting(tmp_path) as attempt, attempt.stage("generate"):
        artifact.open()
        write_lease(tmp_path, {}, 2)
        artifact.finish(candidates_manifest())
    assert not artifact.finished
    assert not (tmp_path / "status.json").exists()
    assert read_json(tmp_path / "attempts" / "00001.json")["state"] == "replaced"
    artifact.finish(candidates_manifest())
    assert artifact.finished, "outside of an attempt nobody is asked"


def test_a_replaced_attempt_is_stopped_at_its_next_beat(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Replaced), attempting(tmp_path, beat=0.1) as attempt, attempt.stage("generate"):
        write_lease(tmp_path, {}, 2)
        time.sleep(20)
        pytest.fail("it went on")
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_attempt_that_cannot_give_a_sign_of_life_stops_before_it_counts_as_dead(tmp_path: Path) -> None:
    cannot = pytest.raises(
        UserError, match=r"cannot be written to \(No such file or directory\): once it can, the same"
    )
    with cannot, attempting(tmp_path, beat=0.1, silence=1):
        (tmp_path / "attempts").rename(tmp_path / "gone")
        time.sleep(20)
        pytest.fail("it went on")
    assert "cannot be written to" in read_json(tmp_path / "status.json")["error"]


def test_the_file_tells_a_person_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"metadata": {"job_submission_id": "raysubmit_1"}, "runtime_env": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
    with attempting(tmp_path) as attempt, attempt.stage("curate"):
        about = read_json(tmp_path / "attempts" / "00001.json")
        assert (about["state"], about["job"], about["process"]) == ("running", "raysubmit_1", os.getpid())
        with pytest.raises(UserError, match="Ray job raysubmit_1"), attempting(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(UserError, match=r"cannot write to .*choose another folder with --root")
    with refused, attempting(tmp_path / "file" / "run"):
        pass


def test_an_attempt_of_another_version_is_not_taken_for_dead(tmp_path: Path) -> None:
    write_lease(tmp_path, {}, 1, schema_version=2)
    with pytest.raises(UserError, match=r"00001\.json: schema_version is 2.*go on with that one"), attempting(tmp_path):
        pass
