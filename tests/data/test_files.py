"""A file is written at once or not at all, by however many processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s2d_ray.data.files import (
    read_json,
    read_json_lines,
    read_rows,
    remove_partials,
    replacing,
    write_json,
    write_table,
    write_text,
)
from s2d_ray.data.status import attempting
from s2d_ray.errors import UserError
from s2d_ray.experiment.store import EventStore

WRITERS = 4
# Each content is of another length, so that a mixture of two is neither.
BUSY = """
import sys, time
from pathlib import Path
from s2d_ray.data.files import read_json, write_json

path, own, seen = Path(sys.argv[1]), int(sys.argv[2]), set()
end, number = time.monotonic() + 4, 0
while time.monotonic() < end:
    number += 1
    write_json(path, {"writer": own, "numbers": [own] * (500 + 100 * own)})
    content = read_json(path)
    assert content["numbers"] == [content["writer"]] * (500 + 100 * content["writer"])
    seen.add(content["writer"])
print(number, len(seen))
"""
HALF_WAY = """
import sys, time
from pathlib import Path
from s2d_ray.data.files import replacing

with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("written", flush=True)
    sys.stdin.readline()
    partial.write_text("whole")
"""


@pytest.mark.slow
def test_of_many_writers_a_reader_finds_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY, str(path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    said = [writer.communicate() for writer in busy]
    assert [errors for _, errors in said] == [""] * WRITERS
    assert max(int(out.split()[1]) for out, _ in said) > 1, "they did not meet"
    assert read_json(path)["writer"] in range(WRITERS)
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


@contextmanager
def half_way(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing `path`, and goes on once it is sent a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HALF_WAY, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        yield writer


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


def test_what_a_dead_writer_left_is_removed_and_a_living_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    dies, lives = tmp_path / "deep" / "dies.txt", tmp_path / "deep" / "lives.txt"
    write_text(dies, "old")
    with half_way(dies) as dying, half_way(lives) as living:
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        assert len(left(tmp_path)) == 2
        remove_partials(tmp_path)
        [partial] = left(tmp_path)
        assert partial.name.startswith(".lives.txt.") and not lives.exists()
        living.communicate("go on\n")
    assert (living.returncode, lives.read_text(), dies.read_text()) == (0, "whole", "old")
    assert left(tmp_path) == []


@pytest.mark.parametrize("opened", ["run", "events"])
def test_a_folder_is_cleaned_when_it_is_opened_again(tmp_path: Path, opened: str) -> None:
    (tmp_path / "requests").mkdir()
    with half_way(tmp_path / "requests" / "part.parquet") as writer:
        writer.send_signal(signal.SIGKILL)
    assert len(left(tmp_path)) == 1
    if opened == "run":
        with attempting(tmp_path):
            pass
    else:
        EventStore(tmp_path).close()
    assert left(tmp_path) == []


def test_files_that_look_alike_are_kept(tmp_path: Path) -> None:
    for name in (".file.partial", "file.0123456789abcdef0123456789abcdef.partial", ".file.0123.partial"):
        (tmp_path / name).touch()
    remove_partials(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_block_that_raises_leaves_the_old_content(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"n": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {"n": object()})
    with pytest.raises(RuntimeError), replacing(tmp_path / "file.json") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [(path.name, json.loads(path.read_text())) for path in tmp_path.iterdir()] == [("file.json", {"n": 1})]


def test_text_json_and_parquet_are_read_back(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "ä\n")
    write_json(tmp_path / "json", {"ä": [1]})
    (tmp_path / "parts").mkdir()
    write_table(tmp_path / "parts" / "a.parquet", pa.table({"n": [1, 2]}))
    assert (tmp_path / "text").read_bytes() == "ä\n".encode() and read_json(tmp_path / "json") == {"ä": [1]}
    assert [row["n"] for row in read_rows(tmp_path / "parts")] == [1, 2]


def test_a_damaged_line_costs_that_line_only(tmp_path: Path) -> None:
    lines = [b'{"step": 1}', b'{"st', b"\0\0\0", b"\xff", b"7", b'{"step": 2}', b'{"step": 3']
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    assert read_json_lines(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("content", [b"", b'{"n": ', b"\0\0", b"\xff"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(UserError, match=r"file\.json is damaged \(.*\): bring it back, or remove it$"):
        read_json(tmp_path / "file.json")


def test_the_content_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, bool]] = []

    def noting(what: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(*arguments: Any) -> None:
            done.append((what, (tmp_path / "file").exists()))
            call(*arguments)

        return noted

    monkeypatch.setattr(os, "fsync", noting("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", noting("replace", os.replace))
    write_text(tmp_path / "file", "new")
    assert done == [("fsync", False), ("replace", False), ("fsync", True)]
