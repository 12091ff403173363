"""An append-only store of events: Parquet parts in a folder, every event in exactly one of them.

An event is first a line in its writer's journal, handed to the operating system before `add` returns, so that
killing the process loses none (a machine that loses power can lose the last moments). `flush` turns the journal into
parts that are named after it and appear whole, then removes it. If that is cut short anywhere, doing it again gives
the same parts; whoever opens the store next does so for journals whose writer has died (its lock is free then).
On a full disk `add` raises, and the event is not stored; all that was stays, and `add` works again once there is room.
`Snapshot` reads parts and journals together, so that an event can be read as soon as it is added.

Object storage cannot append: of a store there, each machine keeps the journals of its own writers on its own disk.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.dataset as pads

from s2d_ray.data.files import remove_partials, write_table
from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath, cache_dir, filesystem
from s2d_ray.experiment.events import FEEDBACK, REQUESTS, SHADOWS, FeedbackEvent, RequestEvent, ShadowEvent, StoredEvent
from s2d_ray.experiment.parts import PartFolder

log = logging.getLogger(__name__)
KINDS: Mapping[type, str] = {RequestEvent: "requests", FeedbackEvent: "feedback", ShadowEvent: "shadows"}
"""Event → the subfolder that its parts are in."""
SCHEMAS: Mapping[str, pa.Schema] = {"requests": REQUESTS, "feedback": FEEDBACK, "shadows": SHADOWS}


def journal_folder(folder: Path) -> Path:
    """Where a store's writers of this machine keep their journals."""
    return cache_dir() / "journals" / folder.key if isinstance(folder, RemotePath) else folder / "journal"


class _Journal(NamedTuple):
    file: int
    """Open and locked."""
    path: Path


class EventStore:
    """One writer of a store; a folder may have many, on many machines. May be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Open a store, made if it is not there, and save what dead writers left, as far as there is room."""
        self._folder = folder
        self._journals = journal_folder(folder)
        self._lock = Lock()
        self._journal: _Journal | None = None
        for part in (self._journals, *(folder / kind for kind in SCHEMAS)):
            remove_partials(part)
        with suppress(OSError):  # Their journals keep it.
            self.recover()

    def add(self, event: StoredEvent) -> None:
        """Keep an event, each once. Some microseconds; raises OSError where the disk takes no more."""
        line = json.dumps([KINDS[type(event)], asdict(event)]).encode() + b"\n"
        with self._lock:
            self._journal = self._journal or self._new_journal()
            _append(self._journal.file, line)

    def flush(self) -> None:
        """Move all events so far into parts. Takes milliseconds: in a server, call it from a thread."""
        with self._lock:
            full, self._journal = self._journal, None
        if full is None:
            return
        try:
            self._commit(full.path)
        finally:
            os.close(full.file)

    def recover(self) -> None:
        """Save the events of writers that died. A store that runs for long calls it now and then."""
        for path in self._journals.glob("*.jsonl"):
            with _ownerless(path) as ownerless:
                if ownerless:
                    self._commit(path)

    def close(self) -> None:
        """Flush, and end writing."""
        self.flush()

    def _new_journal(self) -> _Journal:
        self._journals.mkdir(parents=True, exist_ok=True)
        # It gets its final name only once locked: before, `recover` would take it for a dead writer's.
        name = uuid4().hex
        unlocked = self._journals / f".{name}"
        file = os.open(unlocked, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        _lock(file)
        path = self._journals / f"{name}.jsonl"
        try:
            os.rename(unlocked, path)
        except OSError:
            os.close(file)
            unlocked.unlink()
            raise
        return _Journal(file, path)

    def _commit(self, journal: Path) -> None:
        """A journal's events as one part for each kind. Safe to repeat."""
        rows: dict[str, list[Row]] = {}
        for kind, row in read_journal(journal)[0]:
            rows.setdefault(kind, []).append(row)
        for kind, own in rows.items():
            part = self._folder / kind / f"{journal.stem}.parquet"
            part.parent.mkdir(parents=True, exist_ok=True)
            write_table(part, pa.Table.from_pylist(own, schema=SCHEMAS[kind]))
        journal.unlink(missing_ok=True)


class Snapshot:
    """Every event that a store holds at one moment, as Arrow datasets: nothing but journals is loaded to memory.

    Of a store in object storage, without what is in the journals of other machines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journaled: dict[str, list[tuple[str, Row]]] = {}
        # Journals first: one that is flushed meanwhile has its parts in place before it disappears.
        for journal in journal_folder(folder).glob("*.jsonl"):
            with suppress(FileNotFoundError):
                self._journaled[journal.stem], _ = read_journal(journal)

    @property
    def requests(self) -> pads.Dataset:
        """Rows of schema `REQUESTS`."""
        return self._dataset("requests")

    @property
    def feedback(self) -> pads.Dataset:
        """Rows of schema `FEEDBACK`."""
        return self._dataset("feedback")

    @property
    def shadows(self) -> pads.Dataset:
        """Rows of schema `SHADOWS`."""
        return self._dataset("shadows")

    def _dataset(self, kind: str) -> pads.Dataset:
        schema, folder = SCHEMAS[kind], PartFolder(self._folder / kind)
        paths = [path for path in folder.living() if path.stem not in self._journaled]
        system, _ = filesystem(self._folder)
        parts = [filesystem(path)[1] for path in paths]
        # One that is part of a merged file by now has its events there.
        journals = [events for journal, events in self._journaled.items() if journal not in folder.absorbed]
        rows = [row for events in journals for of, row in events if of == kind]
        kept = pads.dataset(parts, schema=schema, format="parquet", filesystem=system)
        return pads.dataset([kept, pads.dataset(pa.Table.from_pylist(rows, schema=schema))])


def _append(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    try:
        written = 0
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        # The next line must not continue half of this one.
        os.ftruncate(file, size)
        raise


def read_journal(journal: Path, start: int = 0) -> tuple[list[tuple[str, Row]], int]:
    """Kind and row of every event from that byte on, and the byte at which the next one will begin.

    A line that is damaged costs no other.
    """
    with journal.open("rb") as file:
        file.seek(start)
        content = file.read()
    # A line without its end is being written, or was when the process died: its `add` never returned.
    whole = content[: content.rfind(b"\n") + 1]
    events = [event for line in whole.splitlines() if (event := _event(line, journal))]
    return events, start + len(whole)


def _event(line: bytes, journal: Path) -> tuple[str, Row] | None:
    try:
        kind, row = json.loads(line)
        if unknown := row.keys() - set(SCHEMAS[kind].names):
            raise ValueError(f"no event has {', '.join(sorted(unknown))}")
        return kind, row | {"time": round(row["time"] * 1e6)}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("an event in %s is damaged and left out: %s", journal, error)
        return None


@contextmanager
def _ownerless(journal: Path) -> Iterator[bool]:
    """Whether the journal's writer is gone; nobody else takes it over meanwhile."""
    try:
        file = os.open(journal, os.O_RDWR)
    except FileNotFoundError:  # removed since it was listed
        yield False
        return
    try:
        # Between being opened and being locked it may have been committed and removed by its last owner.
        yield _lock(file) and journal.exists()
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
