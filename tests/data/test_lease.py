"""One attempt at a time owns a results folder, whatever dies on the way, and says how it ended."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json, write_json
from s2d_ray.data.lease import Replaced, attempting, work_done
from s2d_ray.errors import UserError

REPOSITORY = Path(__file__).parents[2]
AT_WORK = """
import sys, time
from pathlib import Path
from s2d_ray.data.lease import attempting
with attempting(Path(sys.argv[1])) as attempt, attempt.stage("generate"):
    print("at work", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path, program: str = AT_WORK) -> Iterator[subprocess.Popen[str]]:
    """An attempt at work in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
        process.kill()


def status(folder: Path) -> dict[str, object]:
    found: dict[str, object] = read_json(folder / "status.json")
    found.pop("ended")
    return found


def fake_attempt(folder: Path, number: int, **about: object) -> Path:
    """The file of an attempt on another machine."""
    file = folder / "attempts" / f"{number:05}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"attempt": number, "host": "far", "machine": "far", "process": 7, "state": "running", **about})
    return file


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
    assert status(tmp_path) == {"status": "succeeded", "attempt": 2}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    artifact = Artifact(tmp_path / "round-2" / "parts" / "judge" / "candidates", {})
    with pytest.raises(UserError), attempting(tmp_path) as attempt, attempt.stage("generate", 2):
        artifact.open()
        attempt.use_gpus(0)
        raise UserError("no luck")
    where = {"stage": "generate", "round": 2, "part": "judge"}
    assert status(tmp_path) == {"status": "failed", "attempt": 1, **where, "error": "no luck"}
    about = read_json(tmp_path / "attempts" / "00001.json")
    assert work_done(tmp_path).keys() == {"round-2/parts/judge/candidates"}
    assert about["state"] == "failed"


def test_there_is_no_status_while_an_attempt_is_at_work(tmp_path: Path) -> None:
    with attempting(tmp_path):
        pass
    with attempting(tmp_path):
        assert not (tmp_path / "status.json").exists()


def test_an_attempt_on_another_machine_is_alive_while_its_file_changes(tmp_path: Path) -> None:
    file = fake_attempt(tmp_path, 4)
    over = threading.Event()

    def live() -> None:
        beats = 0
        while not over.wait(0.1):
            beats += 1
            fake_attempt(tmp_path, 4, seen=beats)

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


def test_one_that_has_taken_its_number_and_not_yet_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "00001.json").touch()
    start = time.monotonic()
    with attempting(tmp_path, silence=0.6) as attempt:
        assert attempt.number == 2
        assert time.monotonic() - start >= 0.6
    assert work_done(tmp_path) == {}


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
    artifact = Artifact(tmp_path / "candidates", {"seed": 0})
    replaced = pytest.raises(Replaced, match="attempt 2 has taken over")
    with replaced, attempting(tmp_path) as attempt, attempt.stage("generate"):
        artifact.open()
        fake_attempt(tmp_path, 2)
        artifact.finish({"rows": 1})
    assert not artifact.finished
    assert not (tmp_path / "status.json").exists()
    assert read_json(tmp_path / "attempts" / "00001.json")["state"] == "replaced"
    artifact.finish({"rows": 1})
    assert artifact.finished, "outside of an attempt nobody is asked"


def test_a_replaced_attempt_is_stopped_at_its_next_beat(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Replaced), attempting(tmp_path, beat=0.1) as attempt, attempt.stage("generate"):
        fake_attempt(tmp_path, 2)
        time.sleep(20)
        pytest.fail("it went on")
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_attempt_that_cannot_give_a_sign_of_life_stops_before_it_counts_as_dead(tmp_path: Path) -> None:
    with pytest.raises((KeyboardInterrupt, OSError)), attempting(tmp_path, beat=0.1, silence=1):
        (tmp_path / "attempts").rename(tmp_path / "gone")
        time.sleep(20)
        pytest.fail("it went on")


def test_time_is_counted_for_the_artifact_that_is_made_over_all_attempts(tmp_path: Path) -> None:
    candidates = Artifact(tmp_path / "candidates", {})
    control = Artifact(tmp_path / "controls" / "votes" / "candidates", {})
    begin = time.monotonic()
    with attempting(tmp_path, beat=0.05) as attempt:
        candidates.open()  # As before the stages: nothing is made yet.
        time.sleep(0.3)
        attempt.use_gpus(8)
        with attempt.stage("generate"):
            candidates.open()
            time.sleep(0.3)
    first = time.monotonic() - begin
    with attempting(tmp_path) as attempt, attempt.stage("generate"):
        candidates.open()
        time.sleep(0.2)
        candidates.finish({})
        control.open()
        time.sleep(0.1)
        control.finish({})
        time.sleep(0.3)
        assert candidates.open(), "what is finished takes no time"
        time.sleep(0.1)
    both = time.monotonic() - begin
    found = work_done(tmp_path)
    assert found.keys() == {"candidates", "controls/votes/candidates"}
    # At least what was slept for it, at most what was not slept for something else: a busy machine takes longer.
    assert 0.5 <= found["candidates"].seconds <= both - 0.8
    assert 8 * 0.3 <= found["candidates"].gpu_seconds <= 8 * (first - 0.3)
    assert 0.1 <= found["controls/votes/candidates"].seconds <= both - 1.2


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
