"""JSON and Parquet files, each written at once or not at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath, filesystem


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def write_json(path: Path, content: object) -> None:
    """Write a JSON file at once or not at all, so that a crash leaves no half-written one."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if isinstance(path, RemotePath):
        path.write_text(text)
    else:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text)
        os.replace(partial, path)


def read_json_lines(path: Path) -> list[Any]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def part_files(folder: Path) -> list[Path]:
    """The Parquet parts of a folder, in name order; names with a leading `_` or `.` are not results."""
    parts = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return [folder / part for part in parts if not any(name.startswith(("_", ".")) for name in part.parts)]


def parquet_file(path: Path) -> pq.ParquetFile:
    """A Parquet file, opened."""
    system, name = filesystem(path)
    return pq.ParquetFile(name, filesystem=system)


def write_table(path: Path, table: pa.Table, scratch: Path | None = None) -> None:
    """Write a Parquet file at once or not at all; `scratch` is a folder beside it for what is half written."""
    if isinstance(path, RemotePath):
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        path.write_bytes(buffer.getvalue())
    else:
        partial = (scratch or path.parent) / f".{uuid4().hex}.partial"
        pq.write_table(table, partial)
        os.replace(partial, path)


def read_batches(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A folder's Parquet parts, a batch and one file's footer in memory at a time."""
    for path in part_files(folder):
        with parquet_file(path) as file:
            yield from file.iter_batches(columns=columns)


def read_rows(folder: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Every row of a folder's Parquet parts, a batch in memory at a time."""
    for batch in read_batches(folder, columns):
        yield from batch.to_pylist()
