"""Text, JSON and Parquet files, each written at once or not at all."""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.data.buckets import Overtaken
from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath, alone
from s2d_ray.data.syncing import sync_folder
from s2d_ray.errors import UserError, naming

if TYPE_CHECKING:
    from obstore import PutMode

PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}\.partial")
"""The names of files that are being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in the block; once the block has ended it is in the place of `path`.

    Any number of processes and machines may write and read the same path: a reader finds what was there before or
    what one writer wrote, whole. After the block a crash of the machine leaves the new content. Where the block
    raises, or the process dies in it, the old content stays. Raises OSError where it cannot be written.
    """
    if isinstance(path, RemotePath):
        with TemporaryDirectory() as folder:
            with naming(Path(folder, path.name)):
                yield Path(folder, path.name)
            path.put(Path(folder, path.name))
        return
    with naming(path), _partial(path) as file:
        partial = Path(file.name)
        try:
            yield partial
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def _partial(path: Path) -> BinaryIO:
    """A new file beside `path`. Its lock is the writer's sign of life."""
    while True:
        file = path.with_name(f".{path.name}.{uuid4().hex}.partial").open("xb")
        # A file system without locks has none for `remove_partials` either.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # Taken for a dead writer's before it was locked.


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is missing. After it a crash of the machine leaves them."""
    if isinstance(folder, RemotePath) or folder.is_dir():
        return
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove_partials(folder: Path) -> None:
    """Remove what writers that died left half written, in the folder and all that is in it.

    A living writer's stays, on another machine too where locks of the file system reach it; where they do not, the
    writer's `replacing` raises. In object storage nothing is left.
    """
    if isinstance(folder, RemotePath):
        return
    for where, _, names in os.walk(folder):
        for partial in (Path(where, name) for name in names if PARTIAL.fullmatch(name)):
            with suppress(OSError), partial.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink()


class Damaged(UserError):
    """A file of ours is there and cannot be read."""


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises Damaged where it is none."""
    return parse_json(path.read_bytes(), path)


def parse_json(content: bytes, path: Path) -> Any:
    """What `read_json` gives, where the content of `path` is at hand."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({error}): bring it back, or remove it") from error


def write_json(path: Path, content: object) -> None:
    """Write a JSON file at once or not at all."""
    write_text(path, _json(content))


def update_json(path: Path, change: Callable[[Any], object]) -> None:
    """Replace a JSON file's content by what `change` makes of it, of None where there is no file.

    Nothing that others write by this function meanwhile is lost: on a disk they wait for each other, in object storage
    `change` is called again with what came first, or with its own where that was heard and the answer lost. Where it
    raises, nothing is written.
    """
    if not isinstance(path, RemotePath):
        with alone(path.with_name(f".{path.name}.lock")):
            write_json(path, change(read_json(path) if path.exists() else None))
        return
    while True:
        content, mode = b"null", cast("PutMode", "create")
        with suppress(FileNotFoundError):
            content, mode = path.read_version()
        changed = _json(change(json.loads(content))).encode()
        with suppress(FileExistsError, Overtaken):
            path.put(changed, mode)
            return


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, at once or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json_lines(path: Path) -> list[Any]:
    """The objects of a JSONL file, without the lines that are damaged, as the last may be that a dead writer began."""
    found = list[Any]()
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [entry for entry in found if isinstance(entry, dict)]


def part_files(folder: Path) -> list[Path]:
    """The Parquet parts of a folder, in name order; names with a leading `_` or `.` are not results."""
    parts = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return [folder / part for part in parts if not any(name.startswith(("_", ".")) for name in part.parts)]


def parquet_file(path: Path) -> pq.ParquetFile:
    """A Parquet file, opened."""
    return pq.ParquetFile(path.open("rb") if isinstance(path, RemotePath) else path)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file at once or not at all."""
    with replacing(path) as partial:
        pq.write_table(table, partial)


def read_batches(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A folder's Parquet parts, a batch and one file's footer in memory at a time."""
    for path in part_files(folder):
        with parquet_file(path) as file:
            yield from file.iter_batches(columns=columns)


def read_rows(folder: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Every row of a folder's Parquet parts, a batch in memory at a time."""
    for batch in read_batches(folder, columns):
        yield from batch.to_pylist()
