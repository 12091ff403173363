"""A stand-in for the Hugging Face hub: an HTTP server that huggingface_hub takes for it."""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

TOKEN = "hf_a_token_that_is_nowhere_written"
API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)")
DEFAULT = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)")
FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Repository:
    """A model on the hub."""

    commits: dict[str, Path] = field(default_factory=dict)
    """Commit → a folder with its files."""
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    """Files are for those who have the token; what they are called, as on the hub itself, is for all."""

    def folder(self, revision: str) -> tuple[str, Path] | None:
        """The commit, and its files."""
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class Hub:
    """What the server has, and what it was asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = TOKEN
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        """`METHOD path client`, in the order they came."""

    def push(self, name: str, folder: Path, branch: str = "main") -> str:
        """The folder becomes what a branch of the model is; its commit."""
        repository = self.repositories.setdefault(name, Repository())
        commit = sha1(f"{name} {folder} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = folder
        repository.branches[branch] = commit
        return commit

    def downloads(self, file: str) -> list[str]:
        """The address of each machine that asked for a file, once for each time."""
        asked = [request.split() for request in self.requests]
        return [client for method, path, client in asked if method == "GET" and path.endswith(f"/{file}")]


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[Hub]:
    """A hub without models, while the block runs; 0 is any port."""
    server = ThreadingHTTPServer((host, port), Handler)
    server.hub = hub = Hub(f"http://{host}:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """The part of the hub's API by which models are fetched."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._reply()

    def do_GET(self) -> None:
        self._reply()

    def log_message(self, format: str, *args: object) -> None:
        """Kept in the hub's list instead."""

    @property
    def _hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def _reply(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if DEFAULT.fullmatch(path):
            path += "/revision/main"
        self._hub.requests.append(f"{self.command} {path} {self.client_address[0]}")
        asked = API.fullmatch(path) or FILE.fullmatch(path)
        repository = self._hub.repositories.get(asked["name"]) if asked else None
        if asked is None or repository is None:
            # To those without a token the hub does not say what is private and what does not exist.
            return self._send(401, b"", {"x-error-code": "RepoNotFound"})
        found = repository.folder(asked["revision"])
        if found is None:
            return self._send(404, b"", {"x-error-code": "RevisionNotFound"})
        commit, folder = found
        if "what" not in asked.groupdict():
            return self._file(repository, commit, folder / asked["file"])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        about: object = {"id": asked["name"], "sha": commit, "siblings": []}
        listed = about if asked["what"] == "revision" else [entry(file, folder) for file in files]
        self._send(200, json.dumps(listed).encode(), {"content-type": "application/json"})

    def _file(self, repository: Repository, commit: str, file: Path) -> None:
        if repository.gated and self.headers["authorization"] != f"Bearer {self._hub.token}":
            return self._send(401, b"", {"x-error-code": "GatedRepo"})
        if not file.is_file():
            return self._send(404, b"", {"x-error-code": "EntryNotFound", "x-repo-commit": commit})
        tag = "x-linked-etag" if is_large(file) else "etag"
        etag = sha256(file.read_bytes()).hexdigest() if is_large(file) else git_oid(file.read_bytes())
        self._send(200, file.read_bytes(), {"x-repo-commit": commit, tag: f'"{etag}"'})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def is_large(file: Path) -> bool:
    """Whether git has a pointer only in place of the file."""
    return file.suffix == ".safetensors"


def entry(file: Path, folder: Path) -> dict[str, object]:
    """How the hub lists a file."""
    content, name = file.read_bytes(), str(file.relative_to(folder))
    plain = {"type": "file", "path": name, "size": len(content), "oid": git_oid(content)}
    if not is_large(file):
        return plain
    digest = sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
    large = {"oid": digest, "size": len(content), "pointerSize": len(pointer)}
    return plain | {"oid": git_oid(pointer), "lfs": large}


def git_oid(content: bytes) -> str:
    """What git calls a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def known_here(hub: Hub, home: Path, token: str | None = None) -> Iterator[None]:
    """While the block runs this process has the hub in place of the real one, and a cache of its own in `home`."""
    from huggingface_hub import constants

    # Read from the environment when the module is first imported.
    settings: dict[str, Any] = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
    }
    environment = {"S2D_CACHE": str(home / "s2d")} | ({"HF_TOKEN": token} if token else {})
    with patch.multiple(constants, **settings), patch.dict(os.environ, environment):
        if not token:
            os.environ.pop("HF_TOKEN", None)
        forget()
        yield
    forget()


def forget() -> None:
    """As a new process would begin: with what is on the disk only."""
    from huggingface_hub import _tree_cache

    from s2d_ray.data.hub import _listing

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    _listing.cache_clear()
