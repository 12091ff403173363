"""The hosts of tests: apart from each other and from this machine, and gone with the process that made them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.hosts import SHARED, hosts, lives, missing
from tests.stages.runs import REPOSITORY

MISSING = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
OWNER = """
import sys, time
from pathlib import Path
from tests.faults.hosts import hosts

with hosts(Path(sys.argv[1]), "one", "two") as found:
    found[0].start(["sleep", "1000"], Path(sys.argv[1]) / "log")
    print(*(host.process for host in found), flush=True)
    time.sleep(1000)
"""


def links() -> str:
    """The network links of this machine."""
    return subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout


def test_hosts_share_a_folder_and_a_network_and_nothing_else(tmp_path: Path) -> None:
    before = links()
    with hosts(tmp_path, "one", "two") as (one, two):
        for path in (SHARED / "seen", "/tmp/unseen", "/dev/shm/unseen", "/mnt/home/unseen"):
            assert one.run(["touch", str(path)], 60).returncode == 0
        found = two.run(["find", str(SHARED), "/tmp", "/dev/shm", "/mnt/home", "-type", "f"], 60).stdout.split()
        assert found == [f"{SHARED}/seen"] and (tmp_path / "seen").exists()
        assert two.run(["hostname"], 60).stdout == "two\n"
        assert one.run(["getent", "ahostsv4", "two"], 60).stdout.split()[0] == two.address
        told = f"import socket; socket.create_server(('{two.address}', 9)).accept()[0].sendall(b'hello')"
        two.start([sys.executable, "-c", f"{told}; input()"], tmp_path / "log")
        ask = "import socket, time; time.sleep(1); print(socket.create_connection(('two', 9)).recv(9))"
        assert one.run([sys.executable, "-c", ask], 60).stdout == "b'hello'\n"
    assert links() == before and not lives(one.process)


def test_hosts_are_gone_with_a_process_that_is_killed(tmp_path: Path) -> None:
    before = links()
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        processes = [int(number) for number in owner.stdout.readline().split()]
        assert len(processes) == 2 and all(map(lives, processes))
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(lives, processes)):
        assert time.monotonic() < deadline, "a host outlives the process that made it"
        time.sleep(0.1)
    assert links() == before
