"""Where results, corpora and models are: a path on this machine, or an address `s3://…` or `gs://…`.

A `RemotePath` is used as any other path, and works through pyarrow's file systems. Credentials come from where the
storage's own tools find them (environment, configuration file, the machine's role), on each machine by itself; they
never pass through an address. `AWS_ENDPOINT_URL` in the environment names another server that speaks S3.
"""

import fcntl
import os
import random
import re
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from itertools import chain
from pathlib import Path, PosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import pyarrow.fs as pafs
from pydantic import AfterValidator, BeforeValidator

from s2d_ray.errors import UserError

SCHEMES = ("s3", "gs")
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
ABANDONED_SECONDS = 60.0
"""After which a claim to create a file counts as left behind, by the storage's own clock."""
MEETING_SECONDS = 0.5
"""Within which two processes that try to create a file at the same time try again."""


class RemotePath(PosixPath):
    """A file or folder in object storage; a folder is there while something is in it.

    What is not defined here fails with TypeError, as does opening it as a local file.
    """

    def __str__(self) -> str:
        return re.sub("^(s3|gs):/", r"\1://", super().__str__())

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is no path on this machine")

    @property
    def key(self) -> str:
        """The bucket and the path in it, as pyarrow takes it."""
        return "/".join(self.parts[1:])

    @property
    def system(self) -> pafs.FileSystem:
        """The storage that it is in."""
        scheme, bucket, *_ = self.parts
        return _system(scheme.removesuffix(":"), bucket)

    def is_absolute(self) -> bool:
        return True

    def resolve(self, strict: bool = False) -> "RemotePath":
        return self

    def exists(self) -> bool:
        return bool(self._kind() != pafs.FileType.NotFound)

    def is_file(self) -> bool:
        return bool(self._kind() == pafs.FileType.File)

    def is_dir(self) -> bool:
        return bool(self._kind() == pafs.FileType.Directory)

    def _kind(self) -> Any:
        return self.system.get_file_info(self.key).type

    def entries(self, recursive: bool) -> list[pafs.FileInfo]:
        """What is in the folder, with sizes and times; nothing where there is none."""
        return list(self.system.get_file_info(pafs.FileSelector(self.key, allow_not_found=True, recursive=recursive)))

    def iterdir(self) -> Generator["RemotePath", None, None]:
        return (self / info.base_name for info in self.entries(recursive=False))

    def glob(self, pattern: str) -> Generator["RemotePath", None, None]:
        name, _, rest = pattern.partition("/")
        if "*" in name:
            found = [path for path in self.iterdir() if fnmatchcase(path.name, name)]
        else:  # Listing a folder takes longer the more there is in it.
            found = [self / name] if (self / name).exists() else []
        yield from chain.from_iterable(path.glob(rest) for path in found) if rest else found

    def rglob(self, pattern: str) -> Generator["RemotePath", None, None]:
        paths = (RemotePath(self.parts[0], info.path) for info in self.entries(recursive=True))
        return (path for path in paths if fnmatchcase(path.name, pattern))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing to do: a folder is there as soon as a file is in it."""

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """The file to read and seek in. Raises FileNotFoundError where there is none."""
        if mode != "rb":
            raise ValueError(f"{self} can be opened with mode rb only, not {mode}")
        return self.system.open_input_file(self.key)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, data: Any) -> int:
        """The whole file at once: a reader sees what was there before, or all of it."""
        with self.system.open_output_stream(self.key) as stream:
            return int(stream.write(data))

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        return self.write_bytes(data.encode())

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.system.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file, empty. Without `exist_ok` only one process can, whatever others do at the same time.

        Raises FileExistsError, without `exist_ok`, where it is there or another process is making it.
        """
        if exist_ok:
            self.write_bytes(b"")
        elif not self._created():
            # Two that met are not to meet again.
            time.sleep(random.uniform(0, MEETING_SECONDS))
            raise FileExistsError(str(self))

    def _created(self) -> bool:
        # Not every storage can refuse to overwrite, but all list what has been written: of processes that each put
        # down a claim and then look for those of others, at most one finds its own alone.
        claim = self.with_name(f"{self.name}.{uuid4().hex}")
        claim.write_bytes(b"")
        try:
            beside = {info.base_name: info.mtime_ns for info in self.parent.entries(recursive=False)}
            others = [name for name in beside if name.startswith(f"{self.name}.") and name != claim.name]
            ages = [beside[claim.name] - beside[name] for name in others]
            if self.name in beside or any(age < ABANDONED_SECONDS * 1e9 for age in ages):
                return False
            for name in others:
                self.with_name(name).unlink(missing_ok=True)
            self.write_bytes(b"")
            # Not there: this process stood still for so long that another took it for dead.
            return claim.exists()
        finally:
            claim.unlink(missing_ok=True)


@cache
def _system(scheme: str, bucket: str) -> pafs.FileSystem:
    options = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme == "s3":
        # A small file in one request instead of three.
        options["allow_delayed_open"] = "true"
        if endpoint:
            options |= {"scheme": urlsplit(endpoint).scheme, "endpoint_override": urlsplit(endpoint).netloc}
    return pafs.FileSystem.from_uri(f"{scheme}://{bucket}?{urlencode(options)}")[0]


def location(text: str | Path) -> Path:
    """The path or the address that a person wrote.

    Raises UserError for an address of another scheme, without a bucket, or with credentials in it.
    """
    if isinstance(text, Path) or "://" not in text:
        return Path(text) if isinstance(text, str) else text
    scheme, _, rest = text.partition("://")
    if re.search(r"[@?#]", rest):
        # What stands there may be a secret, so it is not repeated.
        raise UserError(
            f"an address {scheme}://… is a bucket and a path, nothing else: credentials and options come from the "
            "environment (for S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL)"
        )
    if scheme not in SCHEMES:
        raise UserError(f"{text} is in no storage known here: write a path, s3://bucket/path or gs://bucket/path")
    bucket, *parts = rest.rstrip("/").split("/")
    if not BUCKET.fullmatch(bucket):
        raise UserError(f"{text} names no bucket: write {scheme}://bucket/path, the bucket's name in small letters")
    if any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{text} has an empty part, or one of dots alone: write each folder by its name")
    return RemotePath(f"{scheme}:", bucket, *parts)


def _location(value: Any) -> Any:
    return location(value) if isinstance(value, str) else value


def _checked(text: str) -> str:
    location(text)
    return text


Location = Annotated[Path, BeforeValidator(_location)]
"""In a configuration: a path, or an address in object storage."""
NameOrLocation = Annotated[str, AfterValidator(_checked)]
"""In a configuration: one of these, or a name on the hub."""


def filesystem(path: Path) -> tuple[pafs.FileSystem, str]:
    """For pyarrow, and for what builds on it: the file system, and the path in it."""
    return (path.system, path.key) if isinstance(path, RemotePath) else (pafs.LocalFileSystem(), str(path))


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, where it is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif isinstance(path, RemotePath):
        path.system.delete_dir(path.key)
    else:
        shutil.rmtree(path)


@contextmanager
def filled(target: Path) -> Iterator[Path]:
    """A folder on this machine whose files are in `target` once the block has ended."""
    if not isinstance(target, RemotePath):
        yield target
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
        # Uploads of several files at once can deadlock (apache/arrow issue 32372).
        pafs.copy_files(folder, target.key, pafs.LocalFileSystem(), target.system, use_threads=False)


def local_copy(path: Path) -> Path:
    """The same file or folder on this machine: the path itself, or a copy that all processes here share.

    It is fetched again once the original has changed, and then takes the place of the copy before.
    Raises UserError where a file's name leads out of the folder.
    """
    if not isinstance(path, RemotePath):
        return path
    infos = [path.system.get_file_info(path.key)] if path.is_file() else path.entries(recursive=True)
    if any(".." in info.path.split("/") for info in infos):
        raise UserError(f"{path} holds names with a part `..`, which lead out of it: nothing of it is fetched")
    state = "\n".join(sorted(f"{info.path} {info.size} {info.mtime_ns}" for info in infos if info.is_file))
    copies = cache_dir() / "copies" / _digest(str(path))
    copy = copies / _digest(state)
    with _alone(copies.with_suffix(".lock")):
        if not copy.exists():
            shutil.rmtree(copies, ignore_errors=True)
            partial = copies / "partial"
            (partial if path.is_file() else partial / path.name).mkdir(parents=True)
            pafs.copy_files(path.key, str(partial / path.name), path.system, pafs.LocalFileSystem())
            partial.rename(copy)
    return copy / path.name


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=10).hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While the block runs no other process of this machine is in one of the same lock."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_dir() -> Path:
    """Where this machine keeps converted and fetched models: $S2D_CACHE, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "s2d_ray"
    return Path(os.environ.get("S2D_CACHE", default))
