"""What a server that was killed has left: the processes that it recorded, and its folder.

A process is known by its number, when it was started, and what it runs: never by a name.
"""

import json
import os
import select
import shutil
import signal
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from s2d_ray.data.processes import machine, start_of

PREFIX = "s2d-"
"""Of the name of a server's folder."""
RECORD = "processes"
ENDING_SECONDS = 10


class Recorded(NamedTuple):
    """A line of a folder's record. The first is the server's own."""

    machine: str
    process: int
    start: str
    executable: str

    @property
    def alive(self) -> bool:
        """Whether it is still that process, whatever has become of the file that it runs."""
        return self.start == start_of(self.process)

    @property
    def same(self) -> bool:
        """Whether it is that process and runs what it ran."""
        try:
            return self.alive and os.readlink(f"/proc/{self.process}/exe") == self.executable
        except OSError:  # It has just ended, or is another user's.
            return False


def record(folder: Path, processes: Iterable[int], executable: str | None = None) -> None:
    """Add processes to a server's record; with `executable`, what they are about to become."""
    for process in processes:
        start = start_of(process)
        with suppress(FileNotFoundError, ProcessLookupError):
            runs = executable or os.readlink(f"/proc/{process}/exe")
            if start is not None:
                # Opened to append, so that lines of several writers do not mix.
                with (folder / RECORD).open("a") as file:
                    file.write(json.dumps(Recorded(machine(), process, start, runs)) + "\n")


def end_leftovers(parent: Path) -> None:
    """End what servers whose own process is gone have left on this machine, and remove their folders."""
    for folder in parent.glob(f"{PREFIX}*"):
        found = _read(folder) if _is_ours(folder) else []
        if found and found[0].machine == machine() and not found[0].alive:
            for leftover in found[1:]:
                _end(leftover)
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have written what is in it."""
    try:
        about = folder.lstat()
    except FileNotFoundError:  # Another server was quicker.
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077


def _read(folder: Path) -> list[Recorded]:
    found = []
    with suppress(FileNotFoundError):
        for line in (folder / RECORD).read_text().splitlines():
            with suppress(ValueError, TypeError):  # It was killed while it wrote.
                found.append(Recorded(*json.loads(line)))
    return found


def _end(leftover: Recorded) -> None:
    """Kill it, and wait until it has ended."""
    try:
        # Refers to the one process, even where its number is given out again meanwhile.
        process = os.pidfd_open(leftover.process)
    except ProcessLookupError:
        return
    try:
        if leftover.same:
            with suppress(ProcessLookupError):  # It has ended meanwhile.
                signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], ENDING_SECONDS)
    finally:
        os.close(process)
