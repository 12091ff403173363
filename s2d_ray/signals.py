"""Signals by which a process is told to end, as an interruption that code can clean up after; and its end with its
parent's.
"""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Sent by clusters and supervisors, by a terminal that goes away, and by whoever types Ctrl-\\."""
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, also once it runs another program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def interrupted_by_sigterm(first: Callable[[], None] | None = None) -> Iterator[None]:
    """While the block runs SIGTERM, SIGHUP and SIGQUIT leave it by KeyboardInterrupt as Ctrl-C does.

    `first` is called before. Ray's own handler would end the process without a word. A signal that is ignored, as
    nohup does with SIGHUP, stays so. Outside of the main thread, which alone is told of signals, the block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        if first is not None:
            first()
        raise KeyboardInterrupt

    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
