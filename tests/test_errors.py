"""Errors of disks and of storages are one line, whatever library wraps them on their way."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import yaml
from ray.exceptions import OutOfDiskError, RayTaskError
from ray.train import TrainingFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError
from safetensors import SafetensorError

from s2d_ray.data.files import read_json
from s2d_ray.data.status import attempting
from s2d_ray.errors import UserError, disk_full, in_one_line
from tests.small_disk import NEEDS_ROOT, fill, small_disk

COMMAND = [sys.executable, "-c", "from s2d_ray.cli import main; main()"]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/results/trial/part-1.parquet")
QUOTA = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/results/trial/part-1.parquet")
GONE = OSError(errno.EIO, "Service Unavailable", "s3://bucket/part-1.parquet")
ON_THE_DISK = "no space is left in /results/trial: make room there; the same command then goes on where it stopped"
SOMEWHERE = "no space is left on a disk (`df -h` shows which): make room there; "


def of_a_task(error: Exception) -> Exception:
    """As `ray.get` raises what a task raised."""
    text = f"Traceback (most recent call last):\n  File ...\n{type(error).__name__}: {error}"
    task = RayTaskError("answer", text, error, proctitle="ray::answer", pid=1, ip="127.0.0.1")
    return cast("Exception", task.as_instanceof_cause())


def of_ray_data(error: Exception) -> Exception:
    """As Ray Data raises it: the cause is left in the text alone."""
    from ray.exceptions import UserCodeException

    text = (
        f"Traceback (most recent call last):\n  File ...\n{type(error).__name__}: {error}\n\nUserCodeException: failed"
    )
    task = RayTaskError("map", text, UserCodeException("failed"), "ray::map", 1, "127.0.0.1")
    return cast("Exception", task.as_instanceof_cause())


def of_a_worker(error: Exception) -> Exception:
    return WorkerGroupError("Worker 0 failed\nTraceback ...", {0: of_a_task(error)})


def caused(error: Exception) -> Exception:
    try:
        try:
            raise error
        except OSError as cause:
            raise RuntimeError("generating the split failed") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("wrap", [lambda error: error, of_a_task, of_ray_data, of_a_worker, ControllerError, caused])
def test_a_full_disk_is_one_line_whatever_wraps_it(wrap: Callable[[Exception], Exception]) -> None:
    assert in_one_line(wrap(FULL)) == disk_full(wrap(FULL)) == ON_THE_DISK
    assert in_one_line(wrap(QUOTA)) == ON_THE_DISK.replace("no space is left", "the disk quota is used up")


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OutOfDiskError("Local disk is full"),
        RuntimeError("Deploying application trial failed:\nOSError: [Errno 28] No space left on device"),
        OSError(errno.ENOSPC, "Error writing bytes to file"),
    ],
)
def test_of_a_full_disk_that_has_no_name_it_is_said_how_to_find_it(error: Exception) -> None:
    assert (in_one_line(error) or "").startswith(SOMEWHERE)
    assert (in_one_line(of_a_task(error)) or "").startswith(SOMEWHERE)


@pytest.mark.parametrize("wrap", [lambda error: error, of_a_task, of_ray_data, of_a_worker])
def test_a_storage_that_fails_is_one_line(wrap: Callable[[Exception], Exception]) -> None:
    assert in_one_line(wrap(GONE)) == "s3://bucket/part-1.parquet: Service Unavailable"
    assert disk_full(wrap(GONE)) is None


def test_bugs_keep_their_traceback_and_users_their_line() -> None:
    bugs = [ValueError("x"), of_a_task(KeyError("x")), of_ray_data(ValueError("y")), TrainingFailedError("z")]
    assert [in_one_line(bug) for bug in bugs] == [None] * 4
    assert in_one_line(of_a_task(UserError("say\nit"))) == "say it"
    assert in_one_line(of_a_task(FileNotFoundError(errno.ENOENT, "none", "/a"))) == "/a: none"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show", "s2a-geonames"], ["recipes"], ["plan", "s2a-trivia-paper"]])
def test_output_that_finds_no_room_is_one_line(command: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"s2d: {SOMEWHERE}") and ended.stderr.count("\n") == 1


@NEEDS_ROOT
def test_a_run_whose_disk_is_full_ends_with_one_line_and_goes_on_once_there_is_room(
    tmp_path: Path, unread_model: Path
) -> None:
    corpus, recipe = tmp_path / "corpus.jsonl", tmp_path / "mine.yaml"
    corpus.write_text("".join(f'{{"prompt": "What is the number of case {n}?"}}\n' for n in range(2000)))
    content = {"name": "mine", "model": str(unread_model), "task": {"name": "prompts", "path": str(corpus)}}
    content |= {"method": "direct", "engine": {"kind": "scripted", "dtype": "float32"}}
    recipe.write_text(yaml.safe_dump(content))
    with small_disk(tmp_path / "disk", 512) as disk:

        def ingest() -> subprocess.CompletedProcess[str]:
            command = [*COMMAND, "ingest", str(recipe), "--root", str(disk)]
            return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

        filler = fill(disk, leave_kib=24)
        ended = ingest()
        assert (ended.returncode, ended.stdout) == (1, "")
        where = disk / "mine" / "prompts"
        assert ended.stderr == f"s2d: {ON_THE_DISK.replace('/results/trial', str(where))}\n"
        filler.unlink()
        assert ingest().returncode == 0
        assert read_json(disk / "mine" / "status.json")["status"] == "succeeded"


@NEEDS_ROOT
def test_what_ended_a_run_is_not_hidden_by_a_disk_that_takes_no_status(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk, pytest.raises(ZeroDivisionError), attempting(disk / "trial"):
        fill(disk)
        raise ZeroDivisionError
