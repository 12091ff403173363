"""HAProxy as `s2d serve` has it before a gateway, without Ray."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.heads import wait_for

S2D_HAPROXY = [sys.executable, "-c", "from s2d_ray.serving.haproxy import main; main()"]


def rays_config(folder: Path, port: int, gateway: str) -> Path:
    """Ray's own configuration for a gateway at that address, in a file of its own."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    host, _, gateway_port = gateway.removeprefix("http://").partition(":")
    metrics, stats = (free_port() for _ in range(2))
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        metrics_socket_path=str(folder / "metrics.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_port=metrics,
        stats_port=stats,
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
    )
    server = ServerConfig("gateway", host, int(gateway_port))
    # Whether it is alive is asked at an address of Ray's, which a gateway alone does not have.
    backend = BackendConfig("http-trial", "/", servers=[server], app_name="trial", http_health_check_path="")
    file = folder / "haproxy.cfg"
    HAProxyApi(config, {"http-trial": backend}, str(file))._generate_config_file_internal()
    return file


@contextmanager
def before(
    gateway: str, environment: Mapping[str, str] | None = None, command: list[str] = S2D_HAPROXY
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """HAProxy's port, and its process, while the block runs."""
    # Sockets lie in this folder, and the kernel takes short paths only.
    with TemporaryDirectory(prefix="h", dir="/tmp") as folder, ExitStack() as stack:
        port = free_port()
        file = rays_config(Path(folder), port, gateway)
        log = stack.enter_context((Path(folder) / "log").open("w"))
        process = subprocess.Popen(
            [*command, "-db", "-f", str(file), "-dR"], env=os.environ | (environment or {}), stdout=log, stderr=log
        )
        try:
            wait_for(lambda: listens(port) or process.poll() is not None)
            assert process.poll() is None, (Path(folder) / "log").read_text()
            yield port, process
        finally:
            process.kill()
            process.wait()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether anyone takes connections there."""
    with socket.socket() as asked:
        return asked.connect_ex((host, port)) == 0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection from one of the machine's loopback addresses."""
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))


@contextmanager
def room_for(files: int) -> Iterator[None]:
    """This process may open so many files while the block runs."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, files), max(most, files)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
