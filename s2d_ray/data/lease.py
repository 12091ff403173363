"""One attempt at a run: it alone works on a results folder, says how it ended, and keeps the time.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from s2d_ray.data.artifacts import watched
from s2d_ray.data.files import remove_partials, write_json
from s2d_ray.data.folders import part_of
from s2d_ray.errors import UserError
from s2d_ray.terminal import console

ATTEMPTS = "attempts"
STATUS = "status.json"
BEAT_SECONDS = 5.0
"""Between two rewritings of an attempt's file."""
SILENCE_SECONDS = 30.0
"""Without a rewriting after which an attempt counts as dead: several beats, since storages stall."""

State = Literal["running", "succeeded", "failed", "stopped", "replaced"]


class Replaced(UserError):
    """A later attempt has taken over the folder."""


@dataclass(frozen=True, slots=True)
class Work:
    """Time spent on one artifact, over all attempts."""

    seconds: float
    gpu_seconds: float
    """GPUs that the cluster had given out, over time."""

    def share(self, part: float) -> "Work":
        """The time of one that it was spent on together with others, who bear the rest."""
        return Work(part * self.seconds, part * self.gpu_seconds)


@contextmanager
def attempting(folder: Path, beat: float = BEAT_SECONDS, silence: float = SILENCE_SECONDS) -> Iterator["Attempt"]:
    """Own a run's folder while the block runs; at its end `status.json` says how it ended.

    Raises UserError where another attempt is alive, or the folder cannot be written to.
    """
    attempt = Attempt(folder, _take(folder, silence), beat, silence)
    try:
        with watched(attempt), attempt.stopped_by_sigterm(), attempt.recorded():
            yield attempt
        attempt.check()
        attempt.end("succeeded")
    finally:
        attempt.release()


def work_done(folder: Path) -> dict[str, Work]:
    """Time spent on each artifact of a run's folder, by its path within the folder."""
    total: dict[str, Work] = {}
    for file in (folder / ATTEMPTS).glob("*.json"):
        for name, spent in _parsed(file.read_bytes()).get("work", {}).items():
            before = total.get(name, Work(0.0, 0.0))
            total[name] = Work(before.seconds + spent["seconds"], before.gpu_seconds + spent["gpu_seconds"])
    return total


def ray_job() -> str | None:
    """The id of the submitted Ray job that this process drives, if it does."""
    config = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return json.loads(config)["metadata"]["job_submission_id"] if config else None


class Attempt:
    """The attempt that this process is, its sign of life, and its account of the time."""

    def __init__(self, folder: Path, number: int, beat: float, silence: float) -> None:
        self._folder, self.number = folder, number
        self._beat, self._silence = beat, silence
        self._gpus = 0.0
        self._about = {"attempt": number, **_this_process(), "began": _now()}
        self._state: State = "running"
        self._stage: str | None = None
        self._round: int | None = None
        self._work: dict[str, dict[str, float]] = {}
        self._on, self._since = "", time.monotonic()
        self._guard, self._over = threading.Lock(), threading.Event()
        self._write("running")
        (folder / STATUS).unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    @contextmanager
    def stopped_by_sigterm(self) -> Iterator[None]:
        """While the block runs SIGTERM is recorded, and leaves the block by KeyboardInterrupt as Ctrl-C does.

        Recorded at once: a Ray job that is stopped has three seconds, and leaving a stage may take longer.
        """

        def stop(*_: object) -> None:
            with suppress(OSError):
                self.end("stopped")
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def stage(self, name: str, round: int | None = None) -> Iterator[None]:
        """The stage that the block runs. Where it fails, the status is written before Ray is left.

        `round` is the run's, if it has several.
        """
        self._stage, self._round = name, round
        with self.recorded():
            yield
        self._account("")
        self._stage = self._round = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write how it ended where the block raises. Raises Replaced where that is why it was stopped."""
        try:
            yield
        except Exception as error:
            self.end("failed", _in_one_line(error))
            raise
        except (KeyboardInterrupt, SystemExit):
            self.check()
            self.end("stopped")
            raise

    def use_gpus(self, number: float) -> None:
        """How many GPUs the cluster has given out from now on."""
        self._account()
        self._gpus = number

    def begun(self, path: Path) -> None:
        """From now on the time is spent on the artifact at `path`; outside of stages it is not counted."""
        if self._stage:
            self._account(str(path.relative_to(self._folder)))

    def finishing(self) -> None:
        """Raises Replaced where another attempt owns the folder by now, so that no manifest is written."""
        self.check()
        self._account("")

    def check(self) -> None:
        """Raises Replaced where a later attempt has taken over the folder."""
        newest = _newest(self._folder)
        if newest > self.number:
            raise Replaced(f"attempt {newest} has taken over {self._folder}; this one, {self.number}, has stopped")

    def end(self, state: State, error: str | None = None) -> None:
        """Write how it ended to `status.json`; what is said first stays, and a replaced attempt says nothing."""
        if self._state != "running" or _newest(self._folder) > self.number:
            return
        self._state = state
        status: dict[str, Any] = {"status": state, "attempt": self.number, "ended": _now()}
        if state != "succeeded":
            status |= {"stage": "prepare"} | self._where()
        if error is not None:
            status["error"] = error
        write_json(self._folder / STATUS, status)

    def release(self) -> None:
        """The attempt is over: the next one need not wait."""
        self._over.set()
        self._thread.join()
        self._account("")
        with suppress(OSError):  # The next attempt finds this one silent, then.
            self._write("replaced" if self._state == "running" else self._state)

    def _live(self) -> None:
        written = time.monotonic()
        while not self._over.wait(self._beat):
            self._account()
            try:
                self._write("running")
                over = _newest(self._folder) > self.number
                written = time.monotonic()
            except OSError:  # A full disk, or a storage that stalls: the next beat may get through.
                # Well before another attempt may take this one for dead.
                over = time.monotonic() - written > self._silence / 2
            if over:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _account(self, name: str | None = None) -> None:
        """Count the time since the last call for what it was spent on; from now on it is spent on `name`, if given."""
        with self._guard:
            now = time.monotonic()
            if self._on:
                spent = self._work.setdefault(self._on, {"seconds": 0.0, "gpu_seconds": 0.0})
                spent["seconds"] += now - self._since
                spent["gpu_seconds"] += (now - self._since) * self._gpus
            self._since = now
            if name is not None:
                self._on = name

    def _where(self) -> dict[str, Any]:
        """The stage, with the round and the part of a mixture where there are any."""
        where = {"stage": self._stage, "round": self._round, "part": part_of(Path(self._on))}
        return {key: value for key, value in where.items() if value is not None}

    def _write(self, state: State) -> None:
        with self._guard:
            content = {**self._about, "state": state, **self._where(), "seen": _now(), "work": self._work}
            write_json(_file(self._folder, self.number), content)


def _take(folder: Path, silence: float) -> int:
    """The number of the attempt that from now on owns the folder."""
    try:
        (folder / ATTEMPTS).mkdir(parents=True, exist_ok=True)
        while True:
            newest = _newest(folder)
            if newest:
                _refuse_beside(folder, newest, silence)
            with suppress(FileExistsError):  # Another was quicker: look at that one.
                _file(folder, newest + 1).touch(exist_ok=False)
                remove_partials(folder)
                return newest + 1
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder with --root"
        ) from error


def _refuse_beside(folder: Path, number: int, silence: float) -> None:
    """Raises UserError where the attempt of this number is alive."""
    file = _file(folder, number)
    seen = file.read_bytes()
    about = _parsed(seen)
    if about.get("state", "running") != "running":
        return
    if about.get("machine") == _machine():
        alive = _start_of(about["process"]) == about["start"]
    else:
        if about:  # Else it has just taken its number, and is about to write.
            wait = f"looking for a sign of life, {silence:.0f} s at most"
            console.print(f"attempt {number} on {about['host']} may be alive: {wait}")
        alive = _beats(file, seen, silence)
    if alive:
        about = _parsed(file.read_bytes())
        who = f"Ray job {about['job']}" if about.get("job") else f"process {about['process']}"
        raise UserError(
            f"attempt {number} ({who} on {about['host']}) is at work in {folder}: "
            "wait for it or stop it, or choose another --root"
        )


def _beats(file: Path, seen: bytes, silence: float) -> bool:
    """Whether an attempt's file changes within that many seconds, other than by its end."""
    deadline = time.monotonic() + silence
    while time.monotonic() < deadline:
        time.sleep(silence / 30)
        now = file.read_bytes()
        if now != seen:
            return _parsed(now).get("state") == "running"
    return False


def _newest(folder: Path) -> int:
    """The highest attempt number in a run's folder; 0 where there is none."""
    return max((int(file.stem) for file in (folder / ATTEMPTS).glob("*.json")), default=0)


def _file(folder: Path, number: int) -> Path:
    return folder / ATTEMPTS / f"{number:05}.json"


def _parsed(content: bytes) -> dict[str, Any]:
    """What an attempt wrote; nothing where it has just taken its number."""
    return json.loads(content) if content else {}


def _this_process() -> dict[str, Any]:
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": process,
        "start": _start_of(process),
        "job": ray_job(),
    }


def _machine() -> str:
    """The same for processes that can see each other."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _start_of(process: int) -> str | None:
    """When a process was started, in the kernel's ticks; None where it has ended."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else fields[18]


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
