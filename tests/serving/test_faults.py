"""What serving promises when it is overloaded for long, and when its processes are killed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import openai
import psutil
import pytest

from s2d_ray.config import Recipe
from tests.serving.desks import ask, served_recipe
from tests.serving.test_serve import ADDRESS, deployed, events
from tests.serving.test_web import GREEDY

pytestmark = [pytest.mark.ray, pytest.mark.long]
SOAK_SECONDS = 600
WORDS, TOKEN_SECONDS, AT_ONCE = 40, 0.005, 8
# Beyond what caches and the first requests take.
GROWTH = 64 * 2**20


def recipe() -> Recipe:
    """Both arms answer eight requests at once, of a fifth of a second for each call."""
    engine = {"kind": "scripted", "script": "tests.serving.desks:slow"}
    limits = {"concurrent_requests": AT_ONCE // 2, "queued_requests": AT_ONCE // 2, "deadline_seconds": 20}
    return served_recipe(
        name=f"trial-{uuid4().hex[:8]}",
        engine=engine | {"token_seconds": TOKEN_SECONDS, "max_sequences": AT_ONCE // 2},
        evaluate={"sampling": GREEDY},
        serve={"weights": {"system1": 0.5}, "system1": limits, "system2": limits, "flush_seconds": 5},
    )


def replicas(name: str, deployment: str) -> list[psutil.Process]:
    """The processes of a deployment's replicas."""
    title = f"ray::ServeReplica:{name}:{deployment}"
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith(title)]


def load(clients: int, seconds: float, lost: Callable[[Exception], bool]) -> tuple[list[str], Counter[str]]:
    """Ask with that many clients for a while: the ids of the answers, and how all requests ended.

    A request may be answered, refused, or one of those that `lost` allows; anything else is raised.
    """
    stop = time.monotonic() + seconds

    def one(number: int) -> tuple[list[str], Counter[str]]:
        ids, ends, asked = list[str](), Counter[str](), 0
        while time.monotonic() < stop:
            asked += 1
            try:
                ids.append(ask(ADDRESS, user=f"{number}-{asked}").id)
                ends["answered"] += 1
            except openai.APIStatusError as error:
                if error.status_code in (429, 503):
                    assert int(error.response.headers["retry-after"]) >= 1
                    ends["refused"] += 1
                elif lost(error):
                    ends["lost"] += 1
                else:
                    raise
            except openai.APIConnectionError as error:
                if not lost(error):
                    raise
                ends["lost"] += 1
        return ids, ends

    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(one, range(clients)))
    return [i for ids, _ in results for i in ids], sum((ends for _, ends in results), Counter())


def test_ten_minutes_at_twice_the_capacity(local_ray: None, tmp_path: Path) -> None:
    served = recipe()
    with deployed(served, tmp_path):
        warm, _ = load(4 * AT_ONCE, 30, lambda error: False)
        processes = [p for d in ("gateway", "controller", "base", "distilled") for p in replicas(served.name, d)]
        assert len(processes) == 4
        before = {process: process.memory_info().rss for process in processes}
        ids, ends = load(4 * AT_ONCE, SOAK_SECONDS, lambda error: False)
        after = {process: process.memory_info().rss for process in processes}
    stored = events(tmp_path)
    assert ends["refused"] > 0
    assert ends["answered"] > 100
    answered = [row["request_id"] for row in stored if row["outcome"] == "answered"]
    assert sorted(answered) == sorted([*warm, *ids])
    assert {row["outcome"] for row in stored} == {"answered", "refused"}
    assert {
        process.pid: after[process] - before[process]
        for process in processes
        if after[process] - before[process] > GROWTH
    } == {}


@pytest.mark.parametrize(
    ("deployment", "at_most"), [("distilled", AT_ONCE), ("gateway", 4 * AT_ONCE), ("controller", 0)]
)
def test_a_killed_replica_loses_what_was_in_flight_on_it_and_no_event(
    local_ray: None, tmp_path: Path, deployment: str, at_most: int
) -> None:
    served = recipe()
    with deployed(served, tmp_path), ThreadPoolExecutor(1) as pool:
        killed: list[float] = []

        def in_flight(error: Exception) -> bool:
            # A new gateway takes a while to be found.
            return bool(killed) and time.monotonic() - killed[0] < 30

        loading = pool.submit(load, AT_ONCE, 60, in_flight)
        time.sleep(15)
        [victim] = replicas(served.name, deployment)
        killed.append(time.monotonic())
        os.kill(victim.pid, signal.SIGKILL)
        ids, ends = loading.result()
        assert ask(ADDRESS).id
    assert ends["answered"] > 20
    if deployment != "gateway":
        assert ends["lost"] <= at_most
    stored = Counter(row["request_id"] for row in events(tmp_path))
    assert set(ids) <= stored.keys()
    assert set(stored.values()) == {1}
