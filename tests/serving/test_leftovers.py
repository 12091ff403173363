"""What a killed server has left is ended and removed by the next one, and nothing else is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from s2d_ray.data.processes import machine, start_of
from s2d_ray.serving.leftovers import RECORD, end_leftovers
from s2d_ray.serving.ray_settings import FOLDERS

SERVER = """
import os, subprocess, time
from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.ray_settings import record_started, set_for_ray

with set_for_ray(Serve()):
    child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
    record_started()
    print(os.environ["S2D_SERVE_FOLDER"], child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    """A server that has started a process, by which its port could be held."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()
    end_leftovers(FOLDERS)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same command that no server has started."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_killed_servers_processes_and_folder_go(
    server: subprocess.Popen[str], bystander: subprocess.Popen[bytes]
) -> None:
    assert server.stdout is not None
    folder, child = server.stdout.readline().split()
    record = Path(folder) / RECORD
    *_, runs = json.loads(record.read_text().splitlines()[-1])
    # As if the number of one that has ended were given out again; and a line that was not written whole.
    with record.open("a") as file:
        file.write(json.dumps([machine(), bystander.pid, "1", runs]) + "\n" + '["')
    end_leftovers(FOLDERS)
    assert start_of(int(child)) and record.exists()

    server.send_signal(signal.SIGKILL)
    server.wait()
    assert psutil.Process(int(child)).status() != psutil.STATUS_ZOMBIE
    end_leftovers(FOLDERS)
    assert start_of(int(child)) is None
    assert not Path(folder).exists()
    assert bystander.poll() is None


def test_a_folder_that_others_can_write_to_says_nothing(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    planted = tmp_path / "s2d-planted"
    planted.mkdir()
    planted.chmod(0o777)
    runs = os.readlink(f"/proc/{bystander.pid}/exe")
    lines = [[machine(), 1, "0", "gone"], [machine(), bystander.pid, start_of(bystander.pid), runs]]
    (planted / RECORD).write_text("".join(json.dumps(line) + "\n" for line in lines))
    end_leftovers(tmp_path)
    assert bystander.poll() is None
    planted.chmod(0o700)
    end_leftovers(tmp_path)
    assert bystander.wait(10) == -signal.SIGKILL
    assert not planted.exists()
