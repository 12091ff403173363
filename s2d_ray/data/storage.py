"""Where results, corpora and models are: a path on this machine, or an address `s3://…`, `gs://…` or `az://…`.

A `RemotePath` is used as any other path, and works through obstore; Ray Train and the experiment's data sets use
pyarrow's file systems. What fails for a while is waited for (see `outages.py`). Credentials come from where the
storage's own tools find them (environment, configuration file, the machine's role), on each machine by itself; they
never pass through an address. `AWS_ENDPOINT_URL` in the environment names another server that speaks S3.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from io import BufferedReader
from itertools import chain
from pathlib import Path, PosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn, Self, cast

import pyarrow.fs as pafs
from pydantic import AfterValidator, BeforeValidator

from s2d_ray.data.buckets import Store, file_system, reached, store
from s2d_ray.data.ranges import BUFFER, Ranges
from s2d_ray.data.syncing import sync_tree
from s2d_ray.errors import UserError, naming

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion
    from typing_extensions import Buffer

SCHEMES = ("s3", "gs", "az")
CHUNK = 2**24
"""Bytes of a larger file that are uploaded at a time; S3 takes 10 000 such parts of one file."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class ElsewherePath(PosixPath):
    """A file or folder that is not on this machine, by an address that begins with one of its schemes.

    What a subclass does not define fails with TypeError, as does opening it as a local file.
    """

    schemes: ClassVar[Sequence[str]]

    def __str__(self) -> str:
        return re.sub(f"^({'|'.join(map(re.escape, self.schemes))}):/", r"\1://", super().__str__())

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is no path on this machine")

    def is_absolute(self) -> bool:
        return True

    def resolve(self, strict: bool = False) -> Self:
        return self

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode()


class RemotePath(ElsewherePath):
    """A file or folder in object storage; a folder is there while something is in it.

    Where the storage fails for longer than it is waited for, or does not let in, OSError is raised.
    """

    schemes = SCHEMES

    @property
    def key(self) -> str:
        """The bucket and the path in it, as pyarrow takes it."""
        return "/".join(self.parts[1:])

    @property
    def name_in_bucket(self) -> str:
        """The path in the bucket."""
        return "/".join(self.parts[2:])

    @property
    def store(self) -> Store:
        """The bucket that it is in."""
        scheme, bucket, *_ = self.parts
        return store(scheme.removesuffix(":"), bucket)

    def is_file(self) -> bool:
        try:
            return bool(self.name_in_bucket and self.metadata())
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        def anything() -> bool:
            found = chain.from_iterable(self.store.list(self.name_in_bucket, chunk_size=1))
            # An empty object `folder/` stands for a folder that some tools show; its name here is `folder`.
            return any(file["size"] or self._beside(file["path"]).is_file() for file in found)

        return reached(self, anything)

    def metadata(self) -> "ObjectMeta":
        """A file's size, time and version. Raises FileNotFoundError where there is none."""
        return reached(self, lambda: self.store.head(self.name_in_bucket))

    def files(self) -> "list[ObjectMeta]":
        """What is in the folder and the folders in it; nothing where there is none."""
        found = reached(self, lambda: self.store.list(self.name_in_bucket).collect())
        return [file for file in found if file["path"] != self.name_in_bucket]

    def iterdir(self) -> Generator["RemotePath", None, None]:
        found = reached(self, lambda: self.store.list_with_delimiter(self.name_in_bucket))
        names = chain(found["common_prefixes"], (file["path"] for file in found["objects"]))
        return (self._beside(name) for name in names if name != self.name_in_bucket)

    def glob(self, pattern: str) -> Generator["RemotePath", None, None]:
        name, _, rest = pattern.partition("/")
        if "*" in name:
            found = [path for path in self.iterdir() if fnmatchcase(path.name, name)]
        else:  # Listing a folder takes longer the more there is in it.
            found = [self / name] if (self / name).exists() else []
        yield from chain.from_iterable(path.glob(rest) for path in found) if rest else found

    def rglob(self, pattern: str) -> Generator["RemotePath", None, None]:
        """The files that match, and no folders."""
        paths = (self._beside(file["path"]) for file in self.files())
        return (path for path in paths if fnmatchcase(path.name, pattern))

    def _beside(self, name: str) -> "RemotePath":
        return RemotePath(*self.parts[:2], name)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing to do: a folder is there as soon as a file is in it."""

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """The file to read and seek in. Raises FileNotFoundError where there is none."""
        if mode != "rb":
            raise ValueError(f"{self} can be opened with mode rb only, not {mode}")
        return BufferedReader(Ranges(self), BUFFER)

    def read_bytes(self) -> bytes:
        return self.read_version()[0]

    def read_version(self) -> "tuple[bytes, UpdateVersion]":
        """The content, and what `put` needs to replace this and no other. Raises FileNotFoundError."""

        def read() -> "tuple[bytes, UpdateVersion]":
            found = self.store.get(self.name_in_bucket)
            # Google compares the version, the others the e-tag; obstore takes no None.
            version = {key: value for key, value in found.meta.items() if key in ("e_tag", "version") and value}
            return found.bytes().to_bytes(), cast("UpdateVersion", version)

        return reached(self, read)

    def put(self, data: "Buffer | Path", mode: "PutMode" = "overwrite") -> None:
        """The whole file at once: a reader sees what was there before, or all of it.

        `data` may be a file on this machine. Raises FileExistsError with mode `create` where there is one, and
        Overtaken with a version that is not the latest.
        """
        reached(self, lambda: self.store.put(self.name_in_bucket, data, mode=mode, chunk_size=CHUNK))

    def write_bytes(self, data: "Buffer") -> int:
        self.put(data)
        return memoryview(data).nbytes

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        return self.write_bytes(data.encode())

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. A storage may pass over that there is none; else FileNotFoundError is raised."""
        try:
            reached(self, lambda: self.store.delete(self.name_in_bucket))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file, empty. Without `exist_ok` only one process can, whatever others do at the same time.

        Raises FileExistsError, without `exist_ok`, where it is there.
        """
        self.put(b"", "overwrite" if exist_ok else "create")

    def fetch(self, target: Path) -> None:
        """Copy the file to `target` on this machine, without holding it in memory."""

        def copy() -> None:
            found = self.store.get(self.name_in_bucket)
            with naming(target), target.open("wb") as file:
                for chunk in found:
                    file.write(chunk)

        reached(self, copy)


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
            "environment (for S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL; for Azure, "
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)"
        )
    if scheme not in SCHEMES:
        raise UserError(f"{text} is in no storage known here: write a path, s3://bucket/path, gs://… or az://…")
    bucket, *parts = rest.rstrip("/").split("/")
    if not BUCKET.fullmatch(bucket):
        raise UserError(f"{text} names no bucket: write {scheme}://bucket/path, the bucket's name in small letters")
    if any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{text} has an empty part, or one of dots alone: write each folder by its name")
    return RemotePath(f"{scheme}:", bucket, *parts)


def _location(value: Any) -> Any:
    return location(value) if isinstance(value, str) else value


def _written(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _checked(text: str) -> str:
    location(text)
    return text


Location = Annotated[Path, BeforeValidator(_location)]
"""In a configuration: a path, or an address in object storage."""
NameOrLocation = Annotated[str, BeforeValidator(_written), AfterValidator(_checked)]
"""In a configuration: one of these, or a name on the hub."""


def filesystem(path: Path) -> tuple[pafs.FileSystem, str]:
    """For pyarrow, and for what builds on it: the file system, and the path in it."""
    if not isinstance(path, RemotePath):
        return pafs.LocalFileSystem(), str(path)
    scheme, bucket, *_ = path.parts
    return file_system(scheme.removesuffix(":"), bucket), path.key


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, where it is there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
    elif not isinstance(path, RemotePath):
        shutil.rmtree(path)
    elif path.parts[0] == "az:":
        reached(path, lambda: path.store.delete([file["path"] for file in path.files()]))
    else:
        system, name = filesystem(path)
        # obstore cannot name the empty objects `folder/` by which pyarrow, and so Ray Train, makes folders.
        with suppress(FileNotFoundError):  # A try whose last answer was lost has removed it.
            reached(path, lambda: system.delete_dir(name))


@contextmanager
def filled(target: Path) -> Iterator[Path]:
    """A folder on this machine whose files are in `target` once the block has ended, and stay where power is lost."""
    if not isinstance(target, RemotePath):
        yield target
        sync_tree(target)
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
        upload(Path(folder), target)


def upload(folder: Path, target: RemotePath) -> None:
    """Copy all files of a folder on this machine."""
    for file in folder.rglob("*"):
        if file.is_file():
            (target / file.relative_to(folder)).put(file)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """While the block runs no other process of this machine is in one of the same lock."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_dir() -> Path:
    """Where this machine keeps converted and fetched models: $S2D_CACHE, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "s2d_ray"
    return Path(os.environ.get("S2D_CACHE", default))
