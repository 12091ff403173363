"""`ray start --head` for tests, ended with all that it started and nothing else."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.stages.runs import BUSY_MACHINE, PATIENCE

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SLOW_HEAD = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
"""A head that a busy machine has kept from answering is not taken for lost."""


@dataclass(frozen=True)
class Started:
    """A head, once it runs."""

    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    """Lets a process in, and gives it patience."""


@contextmanager
def started(port: int, *options: str, **environment: str) -> Iterator[Started]:
    """A head that asks for a token, while the block runs."""
    # Ray's sockets lie in this folder, and the kernel takes short paths only.
    with TemporaryDirectory(prefix="r", dir="/tmp") as folder, open(Path(folder) / "log", "w") as log:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        lets_in = os.environ | BUSY_MACHINE | SLOW_HEAD | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        # A head that this process was told of would be joined instead.
        lets_in.pop("RAY_ADDRESS", None)
        here = [f"--port={port}", f"--temp-dir={folder}"]
        others = [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
        head = subprocess.Popen(
            [*RAY, "start", "--head", "--block", "--disable-usage-stats", *here, *others, *options],
            env=lets_in | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(head, Path(log.name))
            yield Started(head, lets_in)
        finally:
            _end(head)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(happened: Callable[[], bool]) -> None:
    """Until it has happened; fails where time runs out before."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def _wait(head: subprocess.Popen[bytes], log: Path) -> None:
    wait_for(lambda: "This command will now block" in log.read_text() or head.poll() is not None)
    assert head.poll() is None, log.read_text()


def _end(head: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    head.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        # With `--block` it goes on waiting where its processes end slowly; they are ended below.
        head.wait(timeout=5)
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.kill()
    head.wait()
