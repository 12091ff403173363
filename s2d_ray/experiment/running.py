"""The sums of an experiment, kept up with its store: each event is read once, as soon as it is written.

What has been counted is known by journal: the part that a journal becomes has its events in the same order. Now and
then the sums are put into one file with the count of each journal, so that after a kill only what came since is read
again. Without that file, or with one of another version, all is counted anew from the store, which it never replaces.
"""

import io
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from s2d_ray.data.files import parquet_file, remove_partials, replacing
from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath
from s2d_ray.experiment.parts import MERGED, Part, PartFolder, fitted, open_part
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.experiment.store import SCHEMAS, journal_folder, read_journal
from s2d_ray.experiment.sums import Sums, weights_by_version
from s2d_ray.recipes.serve import Weights

log = logging.getLogger(__name__)
VERSION = 1
"""Of what is summed: a file of another one is not gone on with."""
LIST_SECONDS = 30.0
"""How often it is looked for new parts in object storage, where looking takes time and costs."""
TEXTS = ("prompt", "answer", "error")
"""Columns that no sum is of."""


@dataclass
class _Cursor:
    """How far a journal has been read by this process."""

    byte: int = 0
    rows: dict[str, int] = field(default_factory=dict[str, int])
    """By kind."""


class RunningSums:
    """Of one store. Not for several threads at once; several processes each have their own."""

    def __init__(self, folder: Path, read_state: Callable[[], ExperimentState]) -> None:
        """Go on with what was last kept of a store, which must be there."""
        self._folder, self._read_state = folder, read_state
        self._file = folder / "sums.npz"
        self._parts = {kind: PartFolder(folder / kind) for kind in SCHEMAS}
        state = read_state()
        self._weights: Sequence[Weights] = weights_by_version(state)
        self._began = round(state.started.timestamp() * 1e6)
        self._begin_anew()
        self._open()

    def _begin_anew(self) -> None:
        self.sums = Sums(self._began)
        self._counted: dict[str, dict[str, int]] = {kind: {} for kind in SCHEMAS}
        self._done: dict[str, set[str]] = {kind: set() for kind in SCHEMAS}
        self._cursors: dict[str, _Cursor] = {}
        self._unkept = 0
        self._listed = -inf

    def refresh(self) -> Sums:
        """Count what has been written since. Milliseconds where that is little. Raises OSError."""
        # Journals first: one that is flushed meanwhile has its part in place before it disappears.
        journals = {path.stem: path for path in journal_folder(self._folder).glob("*.jsonl")}
        self._cursors = {name: self._cursors.get(name, _Cursor()) for name in journals}
        for journal in journals.values():
            self._count_journal(journal)
        if not isinstance(self._folder, RemotePath) or time.monotonic() - self._listed > LIST_SECONDS:
            for kind in SCHEMAS:
                self._count_parts(kind)
            self._listed = time.monotonic()
        return self.sums

    def merge(self) -> None:
        """Make few parts of many. Seconds; may run beside `refresh` in another thread. Raises OSError."""
        for kind, schema in SCHEMAS.items():
            PartFolder(self._folder / kind).merge(schema, journal_folder(self._folder))

    def forget(self, until: float) -> None:
        """Of ratings before that time, in seconds since 1970, none may come again. After `refresh` alone."""
        self.sums.rated.forget(round(until * 1e6))

    def keep(self) -> None:
        """Put the sums into their file, if there is anything new. Raises OSError."""
        if copied := self.copied():
            self.write(copied)

    def copied(self) -> dict[str, npt.NDArray[Any]]:
        """What is to be kept, as it is now; nothing where it is. Quick, as `write` is not. After `refresh` alone."""
        if not self._unkept:
            return {}
        done = {kind: sorted(names) for kind, names in self._done.items()}
        about = {"version": VERSION, "began": self._began, "counted": self._counted, "done": done}
        self._unkept = 0
        arrays = {name: array.copy() for name, array in self.sums.arrays().items()}
        return arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}

    def write(self, copied: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put what was copied into the file; may run beside `refresh` in another thread. Raises OSError."""
        with replacing(self._file) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **copied)

    def _open(self) -> None:
        remove_partials(self._folder)
        try:
            with np.load(io.BytesIO(self._file.read_bytes()), allow_pickle=False) as file:
                about = json.loads(bytes(file["about"]))
                if (about["version"], about["began"]) == (VERSION, self._began):
                    self.sums = Sums(self._began, dict(file))
                    self._counted = about["counted"]
                    self._done = {kind: set(names) for kind, names in about["done"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
            log.warning("%s cannot be read: all events are counted anew", self._file, exc_info=True)

    def _count_journal(self, path: Path) -> None:
        cursor = self._cursors[path.stem]
        try:
            events, cursor.byte = read_journal(path, cursor.byte)
        except FileNotFoundError:
            return
        by_kind: dict[str, list[Row]] = {}
        for kind, row in events:
            by_kind.setdefault(kind, []).append(row)
        for kind, rows in by_kind.items():
            first = cursor.rows.get(kind, 0)
            cursor.rows[kind] = first + len(rows)
            new = rows[max(0, self._counted[kind].get(path.stem, 0) - first) :]
            if new:
                self._count(kind, pa.RecordBatch.from_pylist(new, SCHEMAS[kind]), path.stem)

    def _count_parts(self, kind: str) -> None:
        paths, done = self._parts[kind].living(), self._done[kind]
        for path in paths:
            if path.name in done:
                continue
            try:
                part = open_part(path)
                self._count_part(kind, part)
            except FileNotFoundError:  # It has been merged into another, which will be found the next time.
                continue
            done.add(path.name)
            if path.name.startswith(MERGED):
                # Merged parts are not merged again: of what it was made of, nothing need be known any more.
                for journal in part.rows:
                    self._counted[kind].pop(journal, None)
        living = {path.name for path in paths}
        self._done[kind] = {name for name in done if name in living or name.startswith(MERGED)}

    def _count_part(self, kind: str, part: Part) -> None:
        counted, schema = self._counted[kind], _summed(kind)
        if all(counted.get(journal, 0) >= rows for journal, rows in part.rows.items()):
            return
        with parquet_file(part.path) as file:
            columns = [name for name in schema.names if name in file.schema_arrow.names]
            for batch, journal, first in _by_journal(file.iter_batches(columns=columns), part.rows):
                known = max(0, counted.get(journal, 0) - first)
                new = batch.slice(min(known, len(batch)))
                if len(new):
                    self._count(kind, fitted(new, schema), journal)

    def _count(self, kind: str, events: pa.RecordBatch, journal: str) -> None:
        """Events that come next after those of their journal that were counted."""
        try:
            if kind == "shadows":
                self.sums.add_shadows(events)
            else:
                self._learn_weights(events)
                add = self.sums.add_requests if kind == "requests" else self.sums.add_feedback
                add(events, self._weights)
        except BaseException:  # Half of them may be in the sums.
            self._begin_anew()
            raise
        self._counted[kind][journal] = self._counted[kind].get(journal, 0) + len(events)
        self._unkept += len(events)

    def _learn_weights(self, events: pa.RecordBatch) -> None:
        versions = events["version"].drop_null().to_numpy()
        if len(versions) and versions.max() >= len(self._weights):
            self._weights = weights_by_version(self._read_state())


def _summed(kind: str) -> pa.Schema:
    schema = SCHEMAS[kind]
    return pa.schema([field for field in schema if field.name not in TEXTS])


def _by_journal(
    batches: Iterator[pa.RecordBatch], rows: Mapping[str, int]
) -> Iterator[tuple[pa.RecordBatch, str, int]]:
    """The batches, cut where another journal begins, with it and how many of its events came before."""
    left = iter(rows.items())
    journal, length, first = "", 0, 0
    for batch in batches:
        while len(batch):
            while first == length:
                (journal, length), first = next(left), 0
            own = batch.slice(0, length - first)
            yield own, journal, first
            first += len(own)
            batch = batch.slice(len(own))
