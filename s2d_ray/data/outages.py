"""Waiting for a storage that fails for a while: with pauses that grow, told once, and not for ever."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from random import uniform
from threading import Lock
from typing import NamedTuple, TypeVar

from s2d_ray.terminal import console

T = TypeVar("T")
OUTAGE_SECONDS = 90.0
"""How long a storage that does not answer is waited for, from its first failure."""
REFUSAL_SECONDS = 15.0
"""How long one that does not let in: credentials that have just been renewed may not be known everywhere yet."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
TOLD_AFTER_SECONDS = 5.0
"""What is over before that is not worth a line."""


class Failure(NamedTuple):
    """A failure that may pass."""

    reason: str
    """In one line."""
    seconds: float
    """How long it is to be waited for."""


_patient: ContextVar[bool] = ContextVar("patient", default=True)
_telling = Lock()
_seen = float("-inf")
"""When this process last met the outage that it has told of."""


@contextmanager
def impatient() -> Iterator[None]:
    """While the block runs in this thread or task no storage is waited for: what fails is raised at once."""
    token = _patient.set(False)
    try:
        yield
    finally:
        _patient.reset(token)


def outlasting(address: object, do: Callable[[], T], failure_of: Callable[[Exception], Failure | None]) -> T:
    """What `do` gives, which is called again while it fails by what may pass.

    Raises what it raised where that is none, or `impatient`; OSError where it has been waited for long enough.
    """
    began, pause = 0.0, FIRST_PAUSE
    while True:
        try:
            return do()
        except Exception as error:
            failure = failure_of(error)
            if failure is None or not _patient.get():
                raise
            began = began or time.monotonic()
            waited = time.monotonic() - began
            if waited >= failure.seconds:
                raise OSError(errno.EIO, _given_up(failure.reason, waited), str(address)) from error
            tell_of(address, failure.reason, waited)
            # Not all workers at the same moment, nor long after the last one that is due.
            time.sleep(min(uniform(pause / 2, pause), failure.seconds - waited))
            pause = min(2 * pause, LONGEST_PAUSE)


def tell_of(address: object, reason: str, waited: float) -> None:
    """Say once in an outage what is waited for and since when, where that is `waited` seconds ago."""
    global _seen
    if waited < TOLD_AFTER_SECONDS:
        return
    with _telling:
        known, _seen = time.monotonic() - _seen < OUTAGE_SECONDS, time.monotonic()
    if not known:
        since = datetime.now() - timedelta(seconds=waited)
        console.print(f"waiting for {address} since {since:%H:%M:%S}: {reason}", markup=False)


def _given_up(reason: str, waited: float) -> str:
    return f"{reason}, for {waited:.0f} s now: once it is back, the same command goes on where it stopped"
