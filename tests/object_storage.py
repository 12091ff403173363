"""A real S3 server on this machine, for tests of what is in object storage."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
from urllib.request import urlopen

SECRET = "a-secret-that-is-nowhere-written"
SERVER = """
from threading import Lock

from moto.s3.responses import S3Response
from moto.server import main

# S3 looks at a put's condition and does the put in one step; moto lets another one in between.
put, lock = S3Response.put_object, Lock()

def put_object(self):
    with lock:
        return put(self)

S3Response.put_object = put_object
main()
"""


@contextmanager
def s3_server(log: Path) -> Iterator[None]:
    """While the block runs, the environment names a server with the empty bucket `results`; `log` has its requests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-c", SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=said, stderr=said
        ) as server,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", server)
            keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
            with patch.dict(os.environ, keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}):
                import boto3

                boto3.client("s3").create_bucket(Bucket="results")
                yield
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urlopen(url, timeout=10).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
