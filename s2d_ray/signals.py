"""SIGTERM, by which clusters and supervisors stop a process, as an interruption that code can clean up after; and the
end of a process with its parent's.
"""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, also once it runs another program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def interrupted_by_sigterm(first: Callable[[], None] | None = None) -> Iterator[None]:
    """While the block runs SIGTERM leaves it by KeyboardInterrupt as Ctrl-C does, once `first` was called.

    Ray's own handler would end the process without a word. Outside of the main thread, which alone is told of
    signals, the block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        if first is not None:
            first()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
