"""A server on a Ray of its own, as clients and other machines meet it, and after it was killed."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from s2d_ray.recipes.serve import is_loopback
from s2d_ray.serving.haproxy import FOLDER
from tests.heads import wait_for
from tests.serving.certificates import self_signed
from tests.serving.gateways import QUESTION
from tests.serving.haproxies import free_port
from tests.stages.runs import REPOSITORY

pytestmark = [pytest.mark.ray, pytest.mark.long]
# The server has settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_SERVE_", "S2D_SERVE_"))}


@contextmanager
def server(folder: Path, serve: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    """It, while the block runs; ended as by a supervisor, where the block has not ended it."""
    command = [sys.executable, "-m", "tests.serving.server", str(folder), json.dumps(serve)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY)})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(180)


def test_it_answers_by_https_and_the_next_one_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    port = free_port()
    serve = {"port": port, "certificate": str(certificate), "key": str(key)}
    trusting = ssl.create_default_context(cafile=certificate)

    def ask() -> bool:
        question = {"model": "s2d", "messages": [{"role": "user", "content": QUESTION}]}
        request = urllib.request.Request(
            f"https://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(question).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=60) as response:
                return bool(json.load(response)["choices"])
        except OSError:
            return False

    with server(tmp_path, serve) as first:
        wait_for(lambda: ask() or first.poll() is not None)
        below = psutil.Process(first.pid).children(recursive=True)
        [folder] = {Path(p.environ()[FOLDER]) for p in below if p.name() == "haproxy"}
        # Of all that Ray opens this alone has no setting: where replicas hear each other.
        assert {title.partition(":trial:")[0] for title in open_to_others(below)} <= {"ray::ServeReplica"}
        first.send_signal(signal.SIGKILL)
        first.wait()
        with server(tmp_path, serve) as second:
            wait_for(lambda: not folder.exists() or second.poll() is not None)
            wait_for(lambda: ask() or second.poll() is not None)
            assert second.poll() is None
            assert [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert second.returncode in (130, -signal.SIGINT)


def open_to_others(processes: list[psutil.Process]) -> set[str]:
    """Those that listen at an address which other machines may reach."""
    found = set()
    for process in processes:
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip.removeprefix("::ffff:")):
                found.add(process.cmdline()[0])
    return found
