"""What a person sees while a stage runs: how far, how fast, how long still.

Workers add to one meter; the driver reads it and shows a bar on a terminal, a line now and then elsewhere.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from s2d_ray.terminal import console

SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True)
class Reading:
    """What the meter holds."""

    sums: Mapping[str, float]
    last: Mapping[str, float]
    seconds: float
    """From the first worker being ready (its `ready` added) to what was reported last."""


@ray.remote(num_cpus=0)
class MeterActor:
    """Sums what workers report, and remembers the last value of what is not a sum."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._begin = self._end = 0.0

    def add(self, sums: Mapping[str, float], last: Mapping[str, float]) -> None:
        self._end = time.monotonic()
        if "ready" in sums and not self._begin:
            self._begin = self._end
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._last.update(last)

    def restart(self, sums: Mapping[str, float]) -> None:
        self._sums.update(sums)

    def read(self) -> Reading:
        return Reading(self._sums, self._last, self._end - self._begin if self._begin else 0.0)


class Meter:
    """A worker's end of the meter. Sends at most twice a second, and never waits."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._pending: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._sent = 0.0

    def add(self, **sums: float) -> None:
        """Add to sums, such as rows or tokens."""
        for name, value in sums.items():
            self._pending[name] = self._pending.get(name, 0.0) + value
        self._send_now_and_then()

    def show(self, **last: float) -> None:
        """Replace values that are shown as they are, such as the loss."""
        self._last.update(last)
        self._send_now_and_then()

    def _send_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._sent >= 0.5:
            self.flush()
            self._sent = now

    def restart(self, **sums: float) -> None:
        """Set sums anew, such as the steps where some are about to be done again."""
        self.flush()
        self._actor.restart.remote(sums)

    def flush(self) -> None:
        """Send what is pending."""
        self._actor.add.remote(self._pending, self._last)
        self._pending, self._last = {}, {}


@contextmanager
def shown(label: str, total: int | None, unit: str, done: int = 0) -> Iterator[Any]:
    """Show progress while the block runs; gives the meter actor that workers report to.

    `total` and `done` (already there from an earlier attempt) count `unit`s, the name of the sum shown. A `total` that
    is None is known once a worker sets the sum `total`.
    The meter can be read (`reading`) until the block ends.
    """
    # On the driver's own node: the loss of any other must not take the meter, and the stage with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = MeterActor.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    stop = threading.Event()
    display = _Bar(label, total, unit, done) if console.is_terminal else _Lines(label, total, unit, done)

    def watch() -> None:
        while not stop.wait(0.5):
            display.update(reading(actor))

    thread = threading.Thread(target=watch, daemon=True)
    with display:
        thread.start()
        try:
            yield actor
            display.update(reading(actor))
        finally:
            stop.set()
            thread.join()
            ray.kill(actor)


def reading(actor: Any) -> Reading:
    """What has been reported to a meter so far."""
    return cast(Reading, ray.get(actor.read.remote()))


class _Display:
    """Turns the meter's sums into one line of text."""

    def __init__(self, label: str, total: int | None, unit: str, done: int) -> None:
        self._label, self._total, self._unit, self._before = label, total, unit, done

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, now: Reading) -> None:
        raise NotImplementedError

    def _whole(self, now: Reading) -> float | None:
        return now.sums.get("total", self._total)

    def _done(self, now: Reading) -> float:
        done, whole = self._before + now.sums.get(self._unit, 0.0), self._whole(now)
        return done if whole is None else min(done, whole)

    def _of(self, now: Reading) -> str:
        whole = self._whole(now)
        return f"{self._done(now):,.0f}/{'?' if whole is None else f'{whole:,.0f}'}"

    def _rates(self, now: Reading) -> str:
        if not now.seconds:
            return "starting"
        finished, left = now.sums.get(self._unit, 0.0), (self._whole(now) or 0.0) - self._done(now)
        parts = [f"{finished / now.seconds:,.2f} {self._unit}/s"]
        if now.sums.get("tokens"):
            parts.append(f"{now.sums['tokens'] / now.seconds:,.0f} tokens/s")
        parts += [f"{name} {value:.3g}" for name, value in now.last.items()]
        if finished and left > 0:
            parts.append(f"ETA {_clock(left * now.seconds / finished)}")
        return ", ".join(parts)


class _Bar(_Display):
    def __enter__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[of]}"),
        )
        self._progress = Progress(*columns, TextColumn("{task.fields[rates]}"), TimeElapsedColumn(), console=console)
        self._task = self._progress.add_task(
            self._label, total=self._total, completed=self._before, of="", rates="starting"
        )
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, now: Reading) -> None:
        self._progress.update(
            self._task, total=self._whole(now), completed=self._done(now), of=self._of(now), rates=self._rates(now)
        )


class _Lines(_Display):
    _printed, _complete = 0.0, False

    def update(self, now: Reading) -> None:
        clock, complete = time.monotonic(), self._done(now) == self._whole(now)
        if clock - self._printed >= SECONDS_BETWEEN_LINES or (complete and not self._complete):
            console.print(f"  {self._label}: {self._of(now)} {self._unit}, {self._rates(now)}")
            self._printed, self._complete = clock, complete


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
