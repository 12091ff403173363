"""Every event is stored exactly once: through flushes, kills at any moment, crashes half-way, full disks."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s2d_ray.data.files import part_files
from s2d_ray.data.storage import RemotePath, cache_dir, filesystem
from s2d_ray.experiment.events import FeedbackEvent, RequestEvent, ShadowEvent, StoredEvent
from s2d_ray.experiment.store import SCHEMAS, EventStore, Snapshot, journal_folder

TIME = 1_795_000_000.123456


def request(number: int) -> RequestEvent:
    return RequestEvent(f"s2d-{number}", TIME + number, "student", 1, number % 1024, "answered", 0.25)


def ids(folder: Path) -> Counter[str]:
    """What is in the Parquet parts."""
    paths = map(filesystem, part_files(folder / "requests"))
    tables = [pq.read_table(name, filesystem=system) for system, name in paths]
    return Counter(row for table in tables for row in table["request_id"].to_pylist())


def seen(folder: Path) -> Counter[str]:
    """What a reader sees."""
    return Counter(Snapshot(folder).requests.to_table()["request_id"].to_pylist())


def once(numbers: range) -> Counter[str]:
    return Counter(f"s2d-{number}" for number in numbers)


def journals(folder: Path) -> list[Path]:
    return sorted(journal_folder(folder).glob("*.jsonl"))


def test_every_field_of_every_kind_comes_back(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    events: dict[str, StoredEvent] = {
        "requests": RequestEvent(
            request_id="s2d-é\n1",
            time=TIME,
            arm="base",
            version=None,
            cluster=1023,
            outcome="failed",
            seconds=1.5,
            error='said "no"',
            first_token_seconds=0.5,
            prompt_tokens=7,
            completion_tokens=9,
            cost=0.125,
            confidence=-0.75,
            escalated=True,
            rater=31_000,
            prompt="<p>",
            answer="</p>",
        ),
        "feedback": FeedbackEvent("s2d-é\n1", TIME, 0.5, "base", 1, 7),
        "shadows": ShadowEvent("s2d-é\n1", TIME, "student", "teacher", 3, None, 2.5, 30, "late"),
    }
    for event in events.values():
        store.add(event)
    before = [getattr(Snapshot(tmp_path), kind).to_table() for kind in events]
    store.close()
    for table, (kind, event) in zip(before, events.items(), strict=True):
        [row] = pq.read_table(tmp_path / kind).to_pylist()
        assert row.pop("time").timestamp() == TIME
        assert row == {key: value for key, value in asdict(event).items() if key != "time"}
        assert table.equals(pq.read_table(tmp_path / kind))
        assert table.schema == SCHEMAS[kind]


def test_an_event_is_seen_at_once_and_stays_one_when_it_is_flushed(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.add(request(0))
    assert (seen(tmp_path), ids(tmp_path)) == (once(range(1)), Counter())
    store.flush()
    store.add(request(1))
    assert (seen(tmp_path), ids(tmp_path)) == (once(range(2)), once(range(1)))
    store.flush()
    store.flush()
    assert seen(tmp_path) == ids(tmp_path) == once(range(2))
    assert len(part_files(tmp_path / "requests")) == 2


def test_a_reader_does_not_see_twice_what_is_flushed_while_it_reads(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    store.add(request(0))
    snapshot = Snapshot(tmp_path)
    store.flush()
    assert snapshot.requests.count_rows() == 1


def test_closing_flushes_and_leaves_no_journal(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for number in range(5):
        store.add(request(number))
    store.close()
    assert ids(tmp_path) == once(range(5))
    assert list((tmp_path / "journal").iterdir()) == []


def test_writers_share_a_folder_and_leave_each_other_alone(tmp_path: Path) -> None:
    first, second = EventStore(tmp_path), EventStore(tmp_path)
    first.add(request(0))
    second.add(request(1))
    second.recover()
    assert ids(tmp_path) == Counter()
    first.add(request(2))
    first.close()
    second.close()
    assert ids(tmp_path) == once(range(3))


WRITER = """
import sys
from s2d_ray.experiment.store import EventStore
from s2d_ray.data.storage import location
from tests.experiment.test_store import request

store, number = EventStore(location(sys.argv[1])), int(sys.argv[2])
while True:
    store.add(request(number))
    print(number, flush=True)
    number += 1
    if number % 7 == 0:
        store.flush()
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    for attempt, lines in enumerate((1, 6, 7, 30, 200, 333)):
        start = 10_000 * attempt
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            printed = [writer.stdout.readline() for _ in range(lines)]
            writer.send_signal(signal.SIGKILL)
            last = int([*printed, *writer.stdout][-1])
        # One more may have been added whose number was not printed any more.
        own = Counter(int(name[4:]) for name in seen(tmp_path).elements() if int(name[4:]) >= start)
        assert own in (Counter(range(start, last + 1)), Counter(range(start, last + 2)))
    before = seen(tmp_path)
    EventStore(tmp_path).close()
    assert ids(tmp_path) == before
    assert journals(tmp_path) == []


def test_a_store_in_object_storage_loses_nothing_to_a_kill(remote: RemotePath) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(remote), "0"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(17):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    seen_before = seen(remote)
    assert seen_before >= once(range(17))
    # Two where it was killed while it flushed.
    assert {journal.is_relative_to(cache_dir()) for journal in journals(remote)} == {True}
    EventStore(remote).close()
    assert seen(remote) == ids(remote) == seen_before
    assert journals(remote) == []


def test_a_crash_before_the_journal_is_removed_doubles_nothing(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for number in range(3):
        store.add(request(number))
    [journal] = journals(tmp_path)
    kept = tmp_path / "kept"
    shutil.copy(journal, kept)
    store.close()
    kept.rename(journal)  # as if its writer had died between the two
    assert seen(tmp_path) == once(range(3))
    EventStore(tmp_path).close()
    assert seen(tmp_path) == ids(tmp_path) == once(range(3))
    assert journals(tmp_path) == []


def test_a_line_that_was_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    store = EventStore(tmp_path)
    store.add(request(0))
    [journal] = journals(tmp_path)
    shutil.copy(journal, tmp_path / "journal" / "dead.jsonl")
    with (tmp_path / "journal" / "dead.jsonl").open("a") as file:
        file.write('["requests", {"request_id": "s2d-9", "ti')
    journal.unlink()
    assert seen(tmp_path) == once(range(1))
    EventStore(tmp_path)
    assert ids(tmp_path) == once(range(1))


@pytest.mark.parametrize(
    "damaged",
    [b"\0" * 60, b"", b"null", b"[1]", b'["requests", []]', b'["request3", {}]', b'["requests", {"time": 1', b"\xff{"],
)
def test_a_damaged_line_costs_no_other(damaged: bytes, tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    for number in range(3):
        store.add(request(number))
    [journal] = journals(tmp_path)
    first, second, third = journal.read_bytes().splitlines()
    # One of which a byte is another, and one of which all are.
    flipped = second.replace(b'"request_id"', b'"request_ie"')
    journal.write_bytes(b"\n".join([first, damaged, flipped, third, b""]))
    wanted = Counter(["s2d-0", "s2d-2"])
    assert seen(tmp_path) == wanted
    store.flush()
    assert ids(tmp_path) == seen(tmp_path) == wanted


def test_a_flush_that_fails_is_made_good_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EventStore(tmp_path)
    store.add(request(0))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            store.flush()
    store.add(request(1))
    assert seen(tmp_path) == once(range(2))
    assert len(journals(tmp_path)) == 2
    store.recover()
    assert ids(tmp_path) == once(range(1))
    store.close()
    assert ids(tmp_path) == once(range(2))


FULL_DISK = """
import resource, sys
from pathlib import Path
from s2d_ray.experiment.store import EventStore
from tests.experiment.test_store import request

store = EventStore(Path(sys.argv[1]))
store.add(request(0))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
try:
    store.add(request(1))
except OSError:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.add(request(2))
store.close()
"""


def test_a_full_disk_refuses_an_event_and_spoils_no_other(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("refused\n", "")
    assert ids(tmp_path) == Counter(["s2d-0", "s2d-2"])


def test_threads_may_add_while_another_flushes(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        for number in range(2000):
            threads.submit(store.add, request(number))
            if number % 100 == 0:
                threads.submit(store.flush)
    store.close()
    assert ids(tmp_path) == once(range(2000))
