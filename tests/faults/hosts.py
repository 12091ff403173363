"""Hosts on this machine that have nothing in common but a network, the installed packages and one shared folder.

Each is a network, mount, process and name namespace with its own /tmp, home and shared memory. A host is its first
process: when that ends the kernel ends all others there and takes the mounts and the network away, so that nothing is
left to undo, whatever happens to the test.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.stages.runs import REPOSITORY

HOME, SHARED, CODE = (Path("/mnt", name) for name in ("home", "shared", "code"))
"""Folders on every host: its own, the one that all share, and the repository."""
NETWORK = "10.213.77"
BEGIN = f"""
set -e
hostname "$1"
mount -t tmpfs tmpfs /mnt
mkdir {HOME} {SHARED} {CODE}
mount --bind "$2" {SHARED}
mount --bind "$3" {CODE}
echo "$4" > /mnt/hosts
mount --bind /mnt/hosts /etc/hosts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo ready
exec cat
"""


@dataclass(frozen=True)
class Host:
    """A host that runs."""

    name: str
    address: str
    process: int
    """The number of its first process on this machine."""
    environment: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list[Any])
    """What was left to run there."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command as it is started from here to run there."""
        return ["nsenter", "--all", f"--target={self.process}", f"--wdns={CODE}", *arguments]

    def start(self, arguments: Sequence[str], log: Path, **environment: str) -> None:
        """Start a command there; it ends with the host at the latest."""
        with log.open("ab") as said:
            self.started.append(
                subprocess.Popen(
                    self.command(arguments),
                    env={**self.environment, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            )

    def run(self, arguments: Sequence[str], timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end."""
        return subprocess.run(
            self.command(arguments),
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def wait_for_its_end(self) -> None:
        """Until nothing of it is left, once it has been ended."""
        for command in self.started:
            command.wait()
        deadline = time.monotonic() + 30
        while lives(self.process):
            assert time.monotonic() < deadline, f"{self.name} does not end"
            time.sleep(0.05)


def lives(process: int) -> bool:
    """Whether a process has not ended; it may not have been taken note of yet."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def missing() -> str | None:
    """Why there can be no hosts here; None where there can."""
    for tool in ("unshare", "nsenter", "ip", "setpriv"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", *["ip", "link", "add", "name", "bridge", "type", "bridge"]],
        capture_output=True,
        text=True,
    )
    return None if tried.returncode == 0 else f"namespaces may not be made: {tried.stderr.strip()}"


@contextmanager
def hosts(shared: Path, *names: str) -> Iterator[list[Host]]:
    """Hosts by these names while the block runs, on one network; each has `shared` at /mnt/shared."""
    with ExitStack() as stack:
        # One more has nothing but the bridge that the others are joined by.
        table = "\n".join(["127.0.0.1 localhost", *(f"{_address(place)} {name}" for place, name in enumerate(names))])
        switch, *found = [
            stack.enter_context(_host(name, _address(place - 1), shared, table))
            for place, name in enumerate(["switch", *names])
        ]
        _on(switch, "ip link add bridge type bridge", "ip link set bridge up")
        for place, host in enumerate(found):
            _join(switch, host, f"port{place}")
        yield found


def _address(place: int) -> str:
    return f"{NETWORK}.{place + 1}"


@contextmanager
def _host(name: str, address: str, shared: Path, table: str) -> Iterator[Host]:
    spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    # Whatever ends this process ends the host.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "sh", "-c", BEGIN, "sh"]
    with subprocess.Popen(
        [*command, name, str(shared), str(REPOSITORY), table], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        host = None
        try:
            assert first.stdout is not None and first.stdout.readline() == "ready\n", f"{name} did not begin"
            [process] = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
            host = Host(name, address, int(process), _environment())
            yield host
        finally:
            first.kill()
            if host is not None:
                host.wait_for_its_end()


def _environment() -> dict[str, str]:
    """Of a host's processes: nothing of this machine's user but where programs are."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(HOME),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(CODE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _join(switch: Host, host: Host, port: str) -> None:
    _on(switch, f"ip link add {port} type veth peer name eth0 netns {host.process}")
    _on(switch, f"ip link set {port} master bridge up")
    _on(host, f"ip address add {host.address}/24 dev eth0", "ip link set eth0 up")
    # Where vLLM and Ray look which way leads out, to learn their own address. All else is out of reach, and at once.
    _on(host, "ip route add 8.8.8.8 dev eth0")


def _on(host: Host, *commands: str) -> None:
    # The process numbers that `ip` is told are this machine's.
    for command in commands:
        subprocess.run(["nsenter", "--net", f"--target={host.process}", *command.split()], check=True)
