"""Signals that tell a process to end interrupt a block as Ctrl-C does, and nothing beyond it."""

import os
import signal
import threading

import pytest

from s2d_ray.signals import interrupted_by_sigterm


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_block_is_left_once_what_comes_first_is_done(number: signal.Signals) -> None:
    before, done = signal.getsignal(number), list[str]()
    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm(first=lambda: done.append("first")):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            done.append("cleaned up")
    assert done == ["first", "cleaned up"]
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
    try:
        with interrupted_by_sigterm():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_block_that_nobody_stops_leaves_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupted_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_the_block_just_runs() -> None:
    ran = list[str]()

    def work() -> None:
        with interrupted_by_sigterm():
            ran.append("block")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == ["block"]
