"""One attempt at a run: it holds the folder's lease, says in `status.json` how it ended, and keeps the time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from s2d_ray.data.artifacts import watched
from s2d_ray.data.files import write_json
from s2d_ray.data.lease import BEAT_SECONDS, SILENCE_SECONDS, RunLease, now
from s2d_ray.data.outages import impatient
from s2d_ray.data.versioned import Versioned
from s2d_ray.data.work import WorkAccount
from s2d_ray.errors import UserError, in_one_line
from s2d_ray.signals import interrupted_by_sigterm

STATUS = "status.json"

RunOutcome = Literal["succeeded", "failed", "stopped"]


class RunStatus(Versioned):
    """`status.json` in a run's folder: how the last attempt ended. It is not there while one is at work."""

    status: RunOutcome
    attempt: int
    """Its number, from 1."""
    ended: AwareDatetime
    stage: str | None = None
    """Where it ended before its time, `prepare` outside of all stages; None where it succeeded."""
    round: int | None = None
    """Of that stage, in a run of several."""
    part: str | None = None
    """Of a mixture, where it was at work on one."""
    error: str | None = None
    """Why it failed, in one line."""


@contextmanager
def attempting(folder: Path, beat: float = BEAT_SECONDS, silence: float = SILENCE_SECONDS) -> Iterator["Attempt"]:
    """Own a run's folder while the block runs; at its end `status.json` says how it ended.

    `beat` is the seconds between two signs of life, `silence` those without one that an attempt on another machine
    is taken for dead after. Raises UserError where another attempt is alive, or the folder cannot be written to.
    """
    account = WorkAccount()
    lease = RunLease(folder, account, beat, silence)
    attempt = Attempt(folder, lease, account)
    try:
        with watched(attempt), attempt.stopped_by_sigterm(), attempt.recorded():
            (folder / STATUS).unlink(missing_ok=True)
            yield attempt
        lease.check()
        attempt.end("succeeded")
    finally:
        lease.release(attempt.outcome or "replaced")


class Attempt:
    """The attempt that this process is."""

    def __init__(self, folder: Path, lease: RunLease, account: WorkAccount) -> None:
        self._folder, self._lease, self._account = folder, lease, account
        self.outcome: RunOutcome | None = None
        """How it ended; None until then, and where a later attempt has taken over."""

    @property
    def number(self) -> int:
        """From 1: how many attempts there have been, this one included."""
        return self._lease.number

    def stopped_by_sigterm(self) -> AbstractContextManager[None]:
        """While the block runs SIGTERM and its like are recorded, and leave it by KeyboardInterrupt as Ctrl-C does.

        Recorded at once: a Ray job that is stopped has three seconds, and leaving a stage may take longer.
        """

        def record() -> None:
            with impatient(), suppress(OSError, UserError):
                self._lease.check()
                self.end("stopped")

        return interrupted_by_sigterm(first=record)

    @contextmanager
    def stage(self, name: str, round: int | None = None) -> Iterator[None]:
        """The stage that the block runs. Where it fails, the status is written before Ray is left.

        `round` is the run's, if it has several.
        """
        self._lease.stage, self._lease.round = name, round
        with self.recorded():
            yield
        self._account.spend_on("")
        self._lease.stage = self._lease.round = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write how it ended where the block raises. Raises UserError where the lease is why it was stopped."""
        try:
            try:
                yield
            except (KeyboardInterrupt, SystemExit):
                with impatient(), suppress(OSError):  # A storage that fails must not hide that it was stopped.
                    self._lease.check()
                    self.end("stopped")
                raise
        except Exception as error:
            # A disk or storage that fails takes no status either, which must not hide why it ended.
            with impatient(), suppress(OSError):
                self.end("failed", in_one_line(error) or f"{type(error).__name__}: {' '.join(str(error).split())}")
            raise

    def use_gpus(self, number: float) -> None:
        """How many GPUs the cluster has given out from now on."""
        self._account.use_gpus(number)

    def begun(self, path: Path) -> None:
        """From now on the time is spent on the artifact at `path`; outside of stages it is not counted."""
        if self._lease.stage:
            self._account.spend_on(str(path.relative_to(self._folder)))

    def finishing(self) -> None:
        """Raises Replaced where another attempt owns the folder by now, so that no manifest is written."""
        self._lease.check()
        self._account.spend_on("")

    def end(self, outcome: RunOutcome, error: str | None = None) -> None:
        """Write how it ended to `status.json`; what is said first stays, and a replaced attempt says nothing."""
        if self.outcome or self._lease.replaced:
            return
        self.outcome = outcome
        status = RunStatus(status=outcome, attempt=self.number, ended=now(), error=error)
        if outcome != "succeeded":
            place = self._lease.place
            status = status.model_copy(
                update={"stage": place.stage or "prepare", "round": place.round, "part": place.part}
            )
        write_json(self._folder / STATUS, status.to_json())
