"""The lease of a run's folder: of all processes, one at a time works there.

An attempt owns the folder by its number: it creates `attempts/<number>.json`, which only one process can, and
rewrites that file every few seconds while it lives. A later attempt is refused while the newest file still
changes, and takes the next number once it does not; whoever finds a higher number than its own has been
replaced, stops, and writes no manifest. A storage needs to create a file that is not there yet, to overwrite
and to list; clocks of different machines are never compared.
"""

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from s2d_ray.data.files import Damaged, make_folder, remove_partials, write_json
from s2d_ray.data.folders import part_of
from s2d_ray.data.outages import OUTAGE_SECONDS, impatient, tell_of
from s2d_ray.data.processes import machine, start_of
from s2d_ray.data.versioned import Versioned
from s2d_ray.data.work import TimeSpent, WorkAccount
from s2d_ray.errors import UserError
from s2d_ray.terminal import console

ATTEMPTS = "attempts"
BEAT_SECONDS = 5.0
"""Between two rewritings of an attempt's file."""
SILENCE_SECONDS = 2 * OUTAGE_SECONDS
"""Without a rewriting after which an attempt counts as dead. Longer than one waits for its storage: else two would be
at work once that is back."""

LeaseState = Literal["running", "succeeded", "failed", "stopped", "replaced"]


class Replaced(UserError):
    """A later attempt has taken over the folder."""


class Place(NamedTuple):
    """Where in a run an attempt is."""

    stage: str | None
    """None between stages."""
    round: int | None
    """None where the run has one only."""
    part: str | None
    """Of a mixture; None where all parts share the work."""


class LeaseRecord(Versioned):
    """`attempts/<number>.json`: who the attempt is, what it does, and what its time was spent on."""

    attempt: int
    host: str
    machine: str
    """The same for processes that can see each other."""
    process: int
    start: str | None = None
    """When the process was started, in the kernel's ticks."""
    job: str | None = None
    """The submitted Ray job that the process drives, if it does."""
    began: AwareDatetime
    state: LeaseState
    stage: str | None = None
    round: int | None = None
    part: str | None = None
    seen: AwareDatetime
    """When the file was written: its last sign of life."""
    work: dict[str, TimeSpent] = Field(default_factory=dict[str, TimeSpent])
    """Artifact, by its path within the run's folder → time that the attempt spent on it."""


class RunLease:
    """The right to work in a run's folder, kept up by a thread until it is released or a later attempt takes over."""

    def __init__(self, folder: Path, account: WorkAccount, beat: float, silence: float) -> None:
        """Take it. Raises UserError where another attempt is alive, or the folder cannot be written to."""
        self._folder, self._account, self._beat, self._silence = folder, account, beat, silence
        self.number = _take(folder, silence)
        self.stage: str | None = None
        """That the attempt is in; None between stages."""
        self.round: int | None = None
        """That the stage is in; None where the run has one only."""
        self._about = {"attempt": self.number, **_this_process(), "began": now()}
        self._unheard: str | None = None
        """Why no sign of life could be given for too long; None where it could."""
        self._over = threading.Event()
        try:
            self._write("running")
        except OSError:
            with suppress(OSError):  # Empty, it would keep the next attempt waiting.
                _file(folder, self.number).unlink()
            raise
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        # What dead writers left: in a large folder this takes longer than others wait for a sign of life.
        remove_partials(folder)

    @property
    def place(self) -> Place:
        """Where it is now."""
        return Place(self.stage, self.round, part_of(Path(self._account.artifact)))

    @property
    def replaced(self) -> bool:
        """Whether a later attempt has taken over the folder."""
        return _newest(self._folder) > self.number

    def check(self) -> None:
        """Raises Replaced where a later attempt has taken over the folder, and UserError where one may have."""
        if self._unheard:
            raise UserError(
                f"{self._folder} cannot be written to ({self._unheard}): once it can, the same command goes on where "
                "it stopped"
            )
        newest = _newest(self._folder)
        if newest > self.number:
            raise Replaced(f"attempt {newest} has taken over {self._folder}; this one, {self.number}, has stopped")

    def release(self, state: LeaseState) -> None:
        """The attempt is over: the next one need not wait."""
        self._over.set()
        self._thread.join()
        with impatient(), suppress(OSError):  # The next attempt finds this one silent, then.
            self._write(state)

    def _live(self) -> None:
        """Beat until the attempt is over; where it is replaced, or cannot beat, end this process by SIGTERM."""
        written = time.monotonic()
        while not self._over.wait(self._beat):
            try:
                with impatient():
                    self._write("running")
                    over = self.replaced
                written = time.monotonic()
            except OSError as error:  # A full disk, or a storage that stalls: the next beat may get through.
                silent, reason = time.monotonic() - written, error.strerror or str(error)
                tell_of(self._folder, reason, silent)
                # Well before another attempt may take this one for dead.
                over = silent > self._silence * 2 / 3
                self._unheard = reason if over else None
            if over:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _write(self, state: LeaseState) -> None:
        record = LeaseRecord(**self._about, **self.place._asdict(), state=state, seen=now(), work=self._account.spent())
        write_json(_file(self._folder, self.number), record.to_json())


def time_spent(folder: Path) -> dict[str, TimeSpent]:
    """Time spent on each artifact of a run's folder, by its path within the folder, over all attempts."""
    total: dict[str, TimeSpent] = {}
    for file in (folder / ATTEMPTS).glob("*.json"):
        record = _parsed(file.read_bytes(), file)
        for name, spent in record.work.items() if record else ():
            total[name] = total.get(name, TimeSpent()) + spent
    return total


def now() -> datetime:
    """This machine's time, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def ray_job() -> str | None:
    """The id of the submitted Ray job that this process drives, if it does."""
    config = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return json.loads(config)["metadata"]["job_submission_id"] if config else None


def _take(folder: Path, silence: float) -> int:
    """The number of the attempt that from now on owns the folder."""
    try:
        make_folder(folder / ATTEMPTS)
        while True:
            newest = _newest(folder)
            if newest:
                _refuse_beside(folder, newest, silence)
            with suppress(FileExistsError):  # Another was quicker: look at that one.
                _file(folder, newest + 1).touch(exist_ok=False)
                return newest + 1
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder with --root"
        ) from error


def _refuse_beside(folder: Path, number: int, silence: float) -> None:
    """Raises UserError where the attempt of this number is alive."""
    if record := _alive(_file(folder, number), silence):
        who = f"Ray job {record.job}" if record.job else f"process {record.process}"
        raise UserError(
            f"attempt {number} ({who} on {record.host}) is at work in {folder}: "
            "wait for it or stop it, or choose another --root"
        )


def _alive(file: Path, silence: float) -> LeaseRecord | None:
    """What an attempt says in its file, if it is alive."""
    seen = file.read_bytes()
    record = _parsed(seen, file)
    if record and record.state != "running":
        return None
    if record and record.machine == machine():
        return record if start_of(record.process) == record.start else None
    if record:  # Else it has just taken its number, and is about to write.
        wait = f"looking for a sign of life, {silence:.0f} s at most"
        console.print(f"attempt {record.attempt} on {record.host} may be alive: {wait}")
    return _beats(file, seen, silence)


def _beats(file: Path, seen: bytes, silence: float) -> LeaseRecord | None:
    """What an attempt's file says once it changes within that many seconds, other than by its end."""
    deadline = time.monotonic() + silence
    while time.monotonic() < deadline:
        time.sleep(silence / 30)
        content = file.read_bytes()
        if content != seen:
            record = _parsed(content, file)
            return record if record and record.state == "running" else None
    return None


def _newest(folder: Path) -> int:
    """The highest attempt number in a run's folder; 0 where there is none."""
    names = (file.stem for file in (folder / ATTEMPTS).glob("*.json"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _file(folder: Path, number: int) -> Path:
    return folder / ATTEMPTS / f"{number:05}.json"


def _parsed(content: bytes, file: Path) -> LeaseRecord | None:
    """What an attempt wrote; None where it has just taken its number, or a crash of its machine left half of it."""
    with suppress(Damaged):
        return LeaseRecord.parsed(content, file)
    return None


def _this_process() -> dict[str, Any]:
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": machine(),
        "process": process,
        "start": start_of(process),
        "job": ray_job(),
    }
