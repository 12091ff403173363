"""The parts of a stage's work: slices of its input, each with an output of the same name.

A part is done when all its files are there, as their stamps say. So a rerun learns from footers alone what is left,
whatever the size of the corpus; and a part that is made twice, after a crash or by two workers at once, is there once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from s2d_ray.data.contents import Contents, PartFile, described, parts_in, whole_parts, write_stamped
from s2d_ray.data.files import make_folder, parquet_file, part_files, read_json, update_json
from s2d_ray.data.records import Row
from s2d_ray.data.storage import location, remove
from s2d_ray.errors import UserError
from s2d_ray.terminal import console

CHECKPOINT = "_checkpoint"
"""Beside the parts: what only a resume needs. An earlier version, whose parts have no stamps, noted there which of them
are done, and how large they are."""


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
    rows_per_part: int
    """That the parts were cut by; the last may have fewer."""
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
    source: Contents
    """Of the input."""


def rows_of(part: Shard) -> int:
    """How many rows it has."""
    return sum(piece["rows"] for piece in part["slices"])


def remaining(source: Path, target: Path, rows_per_part: int, passes: int = 1) -> Remaining:
    """The parts of `source` that are not in `target` yet, where each of several passes makes parts of its own.

    Parts that were begun with keep their size, whatever `rows_per_part` is now. A part that cannot be read is left, and
    said. Raises UserError where that is one of `source`.
    """
    inputs, unreadable = parts_in(source)
    if unreadable:
        raise UserError(f"{unreadable[0]} cannot be read: remove it, and run the stage that makes it again")
    files, unreadable = parts_in(target)
    for path in unreadable:
        console.print(f"{path} cannot be read: it is made anew", markup=False)
    whole = list(_parts(inputs, _rows_per_part(files, target) or rows_per_part))
    parts = [_of_pass(part, turn) for turn in range(passes) for part in whole] if passes > 1 else whole
    done = {*whole_parts(files), *_done_formerly(files, target)}
    # A part with the plain name has all passes in it: once they went over one part before the next began.
    left = [part for part in parts if not done & {part["name"], part["name"].rpartition("-")[0]}]
    rows = sum(map(rows_of, left))
    contents = sum((file.contents for file in inputs), Contents())
    return Remaining(left, rows, sum(map(rows_of, parts)) - rows, contents)


def _rows_per_part(files: Sequence[PartFile], target: Path) -> int | None:
    """As the parts that are there were cut by; None where there are none."""
    layout = target / CHECKPOINT / "layout.json"
    if layout.exists():
        return int(read_json(layout)["rows_per_part"])
    return next((file.stamp.rows_per_part for file in files if file.stamp), None)


def _done_formerly(files: Sequence[PartFile], target: Path) -> set[str]:
    unstamped = {file.path.stem for file in files if file.stamp is None}
    return unstamped & {mark.name for mark in (target / CHECKPOINT).glob("part-*")} if unstamped else set()


def _parts(files: Sequence[PartFile], rows_per_part: int) -> Iterator[Shard]:
    number, slices, room = 0, list[Slice](), rows_per_part
    for file in files:
        first = 0
        while first < file.contents.rows:
            rows = min(room, file.contents.rows - first)
            slices.append(Slice(path=str(file.path), first=first, rows=rows))
            first, room = first + rows, room - rows
            if not room:
                yield _shard(number, rows_per_part, slices)
                number, slices, room = number + 1, [], rows_per_part
    if slices:
        yield _shard(number, rows_per_part, slices)


def _shard(number: int, rows_per_part: int, slices: list[Slice]) -> Shard:
    return Shard(name=f"part-{number:07}", turn=0, rows_per_part=rows_per_part, slices=slices)


def _of_pass(part: Shard, turn: int) -> Shard:
    # Side by side with what the other passes made of the same rows.
    return {**part, "name": f"{part['name']}-{turn}", "turn": turn}


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
    """Write a part's output, rows with a `prompt_id`, all of it or nothing.

    With `partition_by` the output goes to the sub-folders `column=value` of that column's values.
    """
    whole = Contents.of(table["prompt_id"].to_pylist())
    written = set[Path]()
    for folder, rows in _folders(target, table, partition_by):
        make_folder(folder)
        path = folder / f"{part['name']}.parquet"
        write_stamped(path, rows, part["rows_per_part"], whole)
        written.add(path)
    if partition_by:
        # An attempt that ended half way may have put rows where they are not any more.
        for path in {*_files(target, part, partition_by)} - written:
            path.unlink(missing_ok=True)


def _folders(target: Path, table: pa.Table, column: str | None) -> Iterator[tuple[Path, pa.Table]]:
    if column is None:
        yield target, table
        return
    values: list[Any] = pc.unique(table[column]).to_pylist()
    for value in values:
        yield target / f"{column}={value}", table.filter(pc.equal(table[column], value)).drop_columns([column])


def _files(target: Path, part: Shard, partition_by: str | None) -> list[Path]:
    """The part's output, as far as it is there."""
    name = f"{part['name']}.parquet"
    return list(target.glob(f"{partition_by}=*/{name}" if partition_by else name))


def is_done(target: Path, part: Shard, partition_by: str | None = None) -> bool:
    """Whether the part is there."""
    files = [file for path in _files(target, part, partition_by) if (file := described(path))]
    return part["name"] in whole_parts(files)


def mark_failed(target: Path, part: Shard, index: int, reason: str) -> None:
    """Leave it to the next attempt at a part that one of its rows has failed, and must not be worked on again."""
    update_json(_failures(target, part), lambda marked: {**(marked or {}), str(index): reason})


def marked_failed(target: Path, part: Shard) -> dict[int, str]:
    """Of a part: the rows that earlier attempts failed at, by their place, and why."""
    path = _failures(target, part)
    return {int(index): reason for index, reason in read_json(path).items()} if path.exists() else {}


def _failures(target: Path, part: Shard) -> Path:
    # Of another size, a part of this name has other rows.
    return target / CHECKPOINT / f"failed-{part['name']}-of-{part['rows_per_part']}.json"


def parts_done(target: Path) -> int:
    """How many parts are there, or are being written."""
    return len({path.stem for path in part_files(target)})


def forget_checkpoint(target: Path) -> None:
    """Remove what only a resume needs, once the manifest is written."""
    remove(target / CHECKPOINT)
