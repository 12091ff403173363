"""What a Parquet part says of itself in its footer, so that one that is lost, doubled or cut is noticed.

A part's rows may be in several files. Each has a stamp: the part that it belongs to, its own contents, and those of the
whole part. So whether a part is there, and what a folder holds, is known from footers alone.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from s2d_ray.data.files import parquet_file, part_files, write_table
from s2d_ray.data.storage import RemotePath
from s2d_ray.errors import UserError

STAMP = b"s2d_ray"
"""Key of the stamp in a Parquet file's metadata."""
MODULUS = 2**53
"""Numbers below it every reader of JSON keeps."""
READERS = 32
"""Footers that are read at once: most of the time goes by in waiting, where they are in object storage."""
NAMED = 3
"""Files that one sentence names."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How many rows there are, and which."""

    rows: int = 0
    ids: int = 0
    """Sum of a hash of each row's `prompt_id`: the same in any order, another where a row is lost, doubled or new."""

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Contents":
        """Of rows with these ids."""
        hashes = [int.from_bytes(blake2b(one.encode(), digest_size=8).digest()) for one in ids]
        return cls(len(hashes), sum(hashes) % MODULUS)

    def __add__(self, other: "Contents") -> "Contents":
        return Contents(self.rows + other.rows, (self.ids + other.ids) % MODULUS)

    def times(self, number: int) -> "Contents":
        """Of so many rows with the id of each of these."""
        return Contents(self.rows * number, self.ids * number % MODULUS)


class Stamp(NamedTuple):
    """What a file says of itself."""

    part: str
    """The part that it belongs to, by whose name it is called."""
    rows_per_part: int
    """Rows of the input that make a part; 0 where there is no input."""
    own: Contents
    """Of the file."""
    whole: Contents
    """Of all files of the part."""

    def metadata(self) -> dict[bytes, bytes]:
        """As Parquet keeps it."""
        own, whole = ([contents.rows, contents.ids] for contents in (self.own, self.whole))
        return {STAMP: json.dumps([self.part, self.rows_per_part, own, whole]).encode()}

    @classmethod
    def read(cls, metadata: Mapping[bytes, bytes] | None) -> "Stamp | None":
        """None where there is none: an earlier version wrote none, and other writers do not either."""
        if not metadata or STAMP not in metadata:
            return None
        part, rows_per_part, own, whole = json.loads(metadata[STAMP])
        return cls(part, rows_per_part, Contents(*own), Contents(*whole))


class PartFile(NamedTuple):
    """A Parquet file, from its footer."""

    path: Path
    contents: Contents
    stamp: Stamp | None

    @property
    def astray(self) -> bool:
        """Whether it is called otherwise than it was written: a copy."""
        return self.stamp is not None and self.stamp.part != self.path.stem


class Difference(NamedTuple):
    """How the rows of a folder differ from those that belong there."""

    what: str
    missing: bool
    """Whether they are fewer."""

    @property
    def mend(self) -> str:
        """What becomes of it, or what to do."""
        return "what is missing is made anew" if self.missing else "remove what does not belong there"


def write_stamped(path: Path, table: pa.Table, rows_per_part: int = 0, whole: Contents | None = None) -> None:
    """Write a file of the part by whose name it is called; all of it, where no contents of the whole are given."""
    own = Contents.of(table["prompt_id"].to_pylist())
    stamp = Stamp(path.stem, rows_per_part, own, own if whole is None else whole)
    write_table(path, table.replace_schema_metadata(stamp.metadata()))


def described(path: Path) -> PartFile | None:
    """A Parquet file from its footer; None where it cannot be read. Raises OSError where the storage fails."""
    try:
        with parquet_file(path) as file:
            stamp = Stamp.read(file.metadata.metadata)
            if stamp:
                return PartFile(path, stamp.own, stamp)
            if "prompt_id" not in file.schema_arrow.names:
                return PartFile(path, Contents(file.metadata.num_rows), None)
            ids = (batch["prompt_id"].to_pylist() for batch in file.iter_batches(columns=["prompt_id"]))
            return PartFile(path, sum((Contents.of(own) for own in ids), Contents()), None)
    except pa.ArrowInvalid:
        return None
    except OSError as error:
        # pyarrow's own, of a footer that it cannot read; of storage, it says no more than that it failed.
        if error.errno is not None or isinstance(path, RemotePath):
            raise
        return None


def parts_in(folder: Path) -> tuple[list[PartFile], list[Path]]:
    """The Parquet files of a folder, in name order; and those that cannot be read."""
    paths = part_files(folder)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(described, paths))
    return [file for file in found if file], [path for path, file in zip(paths, found, strict=True) if not file]


def whole_parts(files: Iterable[PartFile]) -> Iterator[str]:
    """The names of the parts that have all their files among these, and no other."""
    parts: dict[str, list[PartFile]] = {}
    for file in files:
        parts.setdefault(file.path.stem, []).append(file)
    for name, own in parts.items():
        there = sum((file.contents for file in own), Contents())
        if all(file.stamp and not file.astray and file.stamp.whole == there for file in own):
            yield name


def contents_of(folder: Path) -> Contents:
    """All rows of a folder's Parquet parts that can be read."""
    return sum((file.contents for file in parts_in(folder)[0]), Contents())


def check_contents(folder: Path, expected: Contents) -> None:
    """Raises UserError, which says how they differ, where a folder's Parquet parts hold other rows than expected."""
    if difference := difference_in(folder, expected):
        again = "run the same command again"
        mend = f"{again}, {difference.mend}" if difference.missing else f"{difference.mend}, and {again}"
        raise UserError(f"{folder} {difference.what}: {mend}")


def difference_in(folder: Path, expected: Contents) -> Difference | None:
    """How the rows of a folder's Parquet parts differ from those expected; None where they do not."""
    files, unreadable = parts_in(folder)
    found = sum((file.contents for file in files), Contents())
    missing = found.rows < expected.rows
    if unreadable:
        return Difference(f"has parts that cannot be read ({_names(unreadable)})", missing)
    if found == expected:
        return None
    stamped = any(file.stamp for file in files)
    others = [file.path for file in files if file.astray or (stamped and file.stamp is None)]
    why = f" ({_names(others)}: not as its stage wrote it)" if others else ""
    if found.rows == expected.rows:
        return Difference(f"has other rows than the {expected.rows} that belong there{why}", missing)
    return Difference(f"has {found.rows} rows where {expected.rows} belong{why}", missing)


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(path.name for path in paths[:NAMED]) + more
