"""A proxy before a server on this machine, which does to requests what a bad day does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal
from urllib.parse import urlsplit

REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
Mishap = Literal["away", "forbidden", "unanswered"] | float | None
"""What happens to a request: its connection is closed without a word, it is answered 403, done and not answered, or
answered so many seconds later."""


@dataclass
class Proxy:
    """What it does, and how many requests it has done that to."""

    mishap: Callable[[int, str], Mishap] = lambda *_: None
    """Of the number of a request, from 1, and its method and path."""
    requests: int = 0
    mishaps: int = 0
    lock: Any = field(default_factory=Lock)

    def next(self, request: str) -> Mishap:
        with self.lock:
            self.requests += 1
            happens = self.mishap(self.requests, request)
            self.mishaps += happens is not None
            return happens


def always(mishap: Mishap) -> Callable[[int, str], Mishap]:
    """To every request."""
    return lambda *_: mishap


def once(mishap: Mishap, method: str) -> Callable[[int, str], Mishap]:
    """To the next request by that method."""
    left = [mishap]
    return lambda _, request: left.pop() if left and request.startswith(method) else None


def away_for(seconds: float) -> Callable[[int, str], Mishap]:
    """From now on for so long."""
    end = time.monotonic() + seconds
    return lambda *_: "away" if time.monotonic() < end else None


@contextmanager
def proxy_to(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy to the server at `url`, and its own address, while the block runs."""
    proxy, server = Proxy(), urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None: ...

        def handle_request(self) -> None:
            body = self._body()
            happens = proxy.next(f"{self.command} {self.path}")
            if happens == "forbidden":
                self._answer(403, {}, REFUSED)
                return
            if isinstance(happens, float):
                time.sleep(happens)
            if happens != "away":
                answer = self._passed_on(body)
            if happens in ("away", "unanswered"):
                self.close_connection = True
            else:
                self._answer(*answer)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_request

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            connection = HTTPConnection(server, timeout=60)
            connection.request(self.command, self.path, body, headers | {"content-length": str(len(body))})
            answer = connection.getresponse()
            found = answer.status, dict(answer.getheaders()), answer.read()
            connection.close()
            return found

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            own = {k.lower(): v for k, v in headers.items() if k.lower() not in ("connection", "transfer-encoding")}
            if self.command != "HEAD":
                own["content-length"] = str(len(content))
            self.send_response(status)
            for name, value in own.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield proxy, f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
