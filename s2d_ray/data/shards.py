"""The parts of a stage's work: slices of its input, each with an output of the same name.

A part is done when its mark is there, which is written after its output. So a rerun learns from names alone what
is left, whatever the size of the corpus; and a part that is made twice, after a crash or by two workers at once, is
there once.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from s2d_ray.data.files import parquet_file, part_files, read_json, update_json, write_json, write_table
from s2d_ray.data.records import Row
from s2d_ray.data.storage import location, remove

CHECKPOINT = "_checkpoint"
LAYOUT = "layout.json"


class Slice(TypedDict):
    """Consecutive rows of one Parquet file."""

    path: str
    first: int
    rows: int


class Shard(TypedDict):
    """The unit of work, of retries and of a resume."""

    name: str
    turn: int
    """Number of the pass over these rows, from 0."""
    slices: list[Slice]


@dataclass(frozen=True)
class Remaining:
    """What is left of a stage's work."""

    parts: Sequence[Shard]
    """All of the first pass, then all of the second, and so on."""
    rows: int
    """Of these parts; where there are several passes, each counts."""
    done: int
    """Rows of the parts that are there already."""


def rows_of(part: Shard) -> int:
    """How many rows it has."""
    return sum(piece["rows"] for piece in part["slices"])


def remaining(source: Path, target: Path, rows_per_part: int, passes: int = 1) -> Remaining:
    """The parts of `source` that are not in `target` yet, where each of several passes makes parts of its own.

    Parts that were begun with keep their size, whatever `rows_per_part` is now.
    """
    checkpoint = target / CHECKPOINT
    checkpoint.mkdir(exist_ok=True)
    if not (checkpoint / LAYOUT).exists():
        write_json(checkpoint / LAYOUT, {"rows_per_part": rows_per_part})
    whole = list(_parts(source, int(read_json(checkpoint / LAYOUT)["rows_per_part"])))
    parts = [_of_pass(part, turn) for turn in range(passes) for part in whole] if passes > 1 else whole
    done = {mark.name for mark in checkpoint.iterdir()}
    # A part with the plain name has all passes in it: once they went over one part before the next began.
    left = [part for part in parts if not done & {part["name"], part["name"].rpartition("-")[0]}]
    rows = sum(map(rows_of, left))
    return Remaining(left, rows, sum(map(rows_of, parts)) - rows)


def _parts(source: Path, rows_per_part: int) -> Iterator[Shard]:
    files = part_files(source)
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(_count, files))
    number, slices, room = 0, list[Slice](), rows_per_part
    for path, count in zip(files, counts, strict=True):
        first = 0
        while first < count:
            rows = min(room, count - first)
            slices.append(Slice(path=str(path), first=first, rows=rows))
            first, room = first + rows, room - rows
            if not room:
                yield Shard(name=f"part-{number:07}", turn=0, slices=slices)
                number, slices, room = number + 1, [], rows_per_part
    if slices:
        yield Shard(name=f"part-{number:07}", turn=0, slices=slices)


def _of_pass(part: Shard, turn: int) -> Shard:
    # Side by side with what the other passes made of the same rows.
    return Shard(name=f"{part['name']}-{turn}", turn=turn, slices=part["slices"])


def _count(path: Path) -> int:
    return int(parquet_file(path).metadata.num_rows)


def read_part(part: Shard) -> list[Row]:
    """Its rows, in order."""
    return list(chain.from_iterable(table.to_pylist() for piece in part["slices"] for table in _read(piece)))


def _read(piece: Slice) -> Iterator[pa.Table]:
    first, last = piece["first"], piece["first"] + piece["rows"]
    with parquet_file(location(piece["path"])) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if begin < last and first < end:
                start = max(first, begin)
                yield file.read_row_group(group).slice(start - begin, min(last, end) - start)
            begin = end


def commit_part(target: Path, part: Shard, table: pa.Table, partition_by: str | None = None) -> None:
    """Write a part's output, all of it or nothing, and mark the part as done.

    With `partition_by` the output goes to the sub-folders `column=value` of that column's values.
    """
    written = set[Path]()
    for folder, rows in _folders(target, table, partition_by):
        folder.mkdir(exist_ok=True)
        path = folder / f"{part['name']}.parquet"
        write_table(path, rows)
        written.add(path)
    if partition_by:
        # An attempt that ended before its mark may have put rows where they are not any more.
        for path in {*target.glob(f"{partition_by}=*/{part['name']}.parquet")} - written:
            path.unlink(missing_ok=True)
    (target / CHECKPOINT / part["name"]).touch()


def _folders(target: Path, table: pa.Table, column: str | None) -> Iterator[tuple[Path, pa.Table]]:
    if column is None:
        yield target, table
        return
    values: list[Any] = pc.unique(table[column]).to_pylist()
    for value in values:
        yield target / f"{column}={value}", table.filter(pc.equal(table[column], value)).drop_columns([column])


def is_done(target: Path, part: Shard) -> bool:
    """Whether the part is there."""
    return (target / CHECKPOINT / part["name"]).exists()


def mark_failed(target: Path, part: Shard, index: int, reason: str) -> None:
    """Leave it to the next attempt at a part that one of its rows has failed, and must not be worked on again."""
    update_json(_failures(target, part), lambda marked: {**(marked or {}), str(index): reason})


def marked_failed(target: Path, part: Shard) -> dict[int, str]:
    """Of a part: the rows that earlier attempts failed at, by their place, and why."""
    path = _failures(target, part)
    return {int(index): reason for index, reason in read_json(path).items()} if path.exists() else {}


def _failures(target: Path, part: Shard) -> Path:
    return target / CHECKPOINT / f"failed-{part['name']}.json"


def parts_done(target: Path) -> int:
    """How many parts are there."""
    return sum(path.name.startswith("part-") for path in (target / CHECKPOINT).glob("*"))


def forget_checkpoint(target: Path) -> None:
    """Remove what only a resume needs, once the manifest is written."""
    remove(target / CHECKPOINT)
