"""The Parquet parts of an event store, and their merging: many small files become few, and no event is there twice.

A merged part lists which parts it was made of, and is there before any of these is removed. Whoever reads the folder at
any moment, or after a kill at any moment, leaves out the ones that a merged part has.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.data.files import parquet_file, part_files, replacing
from s2d_ray.data.storage import RemotePath, alone

MERGED_AT_ONCE = 128
"""Parts that become one."""
MERGED = "merged-"
"""What the name of a merged part begins with."""
_KEY = b"s2d.parts"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of events, in the order in which they were written."""

    path: Path
    rows: Mapping[str, int]
    """Journal that its events were in → how many there are, one journal's after the other's."""


def open_part(path: Path) -> Part:
    """What a file says of itself. Raises FileNotFoundError where it has been merged into another since."""
    with parquet_file(path) as file:
        said = (file.schema_arrow.metadata or {}).get(_KEY)
        return Part(path, json.loads(said) if said else {path.stem: file.metadata.num_rows})


class PartFolder:
    """The parts of one kind of events. What merged ones were made of is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._merged: set[str] = set()
        self.absorbed: set[str] = set()
        """Journals whose events are in merged parts, as of the last `living`."""

    def living(self) -> Sequence[Path]:
        """Files that have every event once between them."""
        paths = self._paths()
        for path in paths:
            if path.name.startswith(MERGED) and path.name not in self._merged:
                self.absorbed |= open_part(path).rows.keys()
                self._merged.add(path.name)
        return [path for path in paths if path.stem not in self.absorbed]

    def _paths(self) -> Sequence[Path]:
        if isinstance(self._folder, RemotePath) or not self._folder.is_dir():
            return part_files(self._folder)
        # Every view of the page comes here, and thousands of files may.
        return [self._folder / name for name in sorted(os.listdir(self._folder)) if _is_part(name)]

    def merge(self, schema: pa.Schema, journals: Path) -> None:
        """Make one part of many, as long as there are enough of them. Several processes may try at once.

        Parts of journals that are still there are left: a writer that was killed may be about to write them again.
        """
        if isinstance(self._folder, RemotePath):
            return
        with alone(self._folder / ".merging"):
            self._remove_absorbed()
            kept = {path.stem for path in journals.glob("*.jsonl")}
            plain = [path for path in self.living() if not path.name.startswith(MERGED) and path.stem not in kept]
            for first in range(0, len(plain) - MERGED_AT_ONCE + 1, MERGED_AT_ONCE):
                self._merge(plain[first : first + MERGED_AT_ONCE], schema)
            self._remove_absorbed()

    def _merge(self, paths: Sequence[Path], schema: pa.Schema) -> None:
        parts = [open_part(path) for path in paths]
        said = {_KEY: json.dumps({journal: rows for part in parts for journal, rows in part.rows.items()}).encode()}
        with (
            replacing(self._folder / f"{MERGED}{uuid4().hex}.parquet") as partial,
            pq.ParquetWriter(partial, schema.with_metadata(said)) as writer,
        ):
            for path in paths:
                with parquet_file(path) as file:
                    for batch in file.iter_batches():
                        writer.write_batch(fitted(batch, schema))

    def _remove_absorbed(self) -> None:
        self.living()
        for path in self._paths():
            if path.stem in self.absorbed:  # And not what has come since.
                path.unlink(missing_ok=True)


def _is_part(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith((".", "_"))


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """With the columns of today; what an older version did not write is null."""
    columns = [
        batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema.remove_metadata())
