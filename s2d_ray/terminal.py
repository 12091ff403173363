"""The one console that this package speaks to a person through, and the quiet around it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


def quiet_defaults() -> None:
    """What Ray, vLLM and the hub say and report by themselves is off, unless the environment says otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What libraries print, from Python or from C++, goes to `log`; what this package says does not.

    The console holds the original output, so only the file descriptors underneath change.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        kept, shown_in = (os.dup(1), os.dup(2)), None if console.file is sys.stdout else console.file
        shown, opened = _original_output()
        console.file = shown
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            console.file = shown_in  # type: ignore[assignment] # None: whatever sys.stdout is at the time
            if opened:
                shown.close()
            for original, number in zip(kept, (1, 2), strict=True):
                os.dup2(original, number)
                os.close(original)


def _original_output() -> tuple[TextIO, bool]:
    """Where a person reads, once the file descriptors lead elsewhere; and whether it was opened here.

    A notebook's output is no file descriptor: it stays as it is.
    """
    try:
        plain = sys.stdout.fileno() == 1
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError.
        plain = False
    return (os.fdopen(os.dup(1), "w", buffering=1), True) if plain else (sys.stdout, False)
