"""How Ray is to be started for serving; it reads this from the environment before it runs anything of ours."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.haproxy import CERTIFICATE, FOLDER, HOST, KEY
from s2d_ray.serving.leftovers import PREFIX, end_leftovers, record

SERVING_SETTINGS: Mapping[str, str] = {
    # HAProxy, which comes with Ray Serve, hands each request straight to a gateway: what a request costs beside
    # the engine falls to a fifth of the CPU time that it takes through Ray Serve's own proxy.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # Fewer threads and copies for each request.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # HAProxy learns at once that a gateway is about to go, and asks another where it comes too late.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}
"""Environment variable → value."""

PRIVATE_FILES: Mapping[str, str] = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "state",
}
PRIVATE_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
)
FOLDERS = Path("/tmp")
"""Where a server has its folder. Short, since a socket's path may have 107 characters, of which Ray takes some 80."""


@contextmanager
def set_for_ray(settings: Serve) -> Iterator[None]:
    """Ray that is started while the block runs is set up for serving. What the environment has of Ray's stays.

    What a server that was killed has left is ended first, so that its port is free.
    """
    end_leftovers(FOLDERS)
    # A folder of our own: whoever can write to a socket in it commands HAProxy.
    with TemporaryDirectory(prefix=PREFIX, dir=FOLDERS, ignore_cleanup_errors=True) as folder:
        record(Path(folder), [os.getpid()])
        for name, value in {**SERVING_SETTINGS, **_private(Path(folder))}.items():
            os.environ.setdefault(name, value)
        os.environ.update({FOLDER: folder, **_edge(settings)})
        yield


def starts_own_ray() -> bool:
    """Whether the environment names no cluster to join."""
    return not os.environ.get("RAY_ADDRESS")


def host_for_ray(settings: Serve) -> str:
    """Where Ray's own servers listen: HAProxy alone is there for clients, unless it may be on another machine."""
    return "127.0.0.1" if starts_own_ray() else settings.host


def record_started() -> None:
    """Record what this process has started so far, to be ended should it be killed."""
    record(Path(os.environ[FOLDER]), [child.pid for child in psutil.Process().children(recursive=True)])


def _edge(settings: Serve) -> dict[str, str]:
    """What HAProxy is to be for clients, where it is started here."""
    if not starts_own_ray():
        return {}
    files = {CERTIFICATE: settings.certificate, KEY: settings.key}
    return {HOST: settings.host} | {name: str(Path(file).resolve()) for name, file in files.items() if file}


def _private(folder: Path) -> dict[str, str]:
    """Where HAProxy has its files and what it listens at besides, so that servers on one machine do not meet."""
    files = {name: str(folder / file) for name, file in PRIVATE_FILES.items()}
    files["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(Path(sys.executable).with_name("s2d-haproxy"))
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in PRIVATE_PORTS]
    return files | {name: str(port) for name, port in zip(PRIVATE_PORTS, free, strict=True)}
