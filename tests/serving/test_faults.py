"""What serving promises when it is overloaded for long, and when its processes are killed."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import openai
import pytest

from s2d_ray.recipes.recipe import Recipe
from tests.serving.gateways import ask, replicas, served_recipe
from tests.serving.test_serve import ADDRESS, deployed, events
from tests.serving.test_web import GREEDY

pytestmark = [pytest.mark.ray, pytest.mark.long]
SOAK_SECONDS = 600
WORDS, TOKEN_SECONDS, AT_ONCE = 40, 0.005, 8
NOTICED = 1.0
"""Seconds in which a request may still be sent to a process that is gone."""
# Beyond what caches and the first requests take.
GROWTH = 64 * 2**20


def recipe() -> Recipe:
    """Both arms answer eight requests at once, of a fifth of a second for each call."""
    engine = {"kind": "scripted", "script": "tests.serving.gateways:slow"}
    limits = {"concurrent_requests": AT_ONCE // 2, "queued_requests": AT_ONCE // 2, "deadline_seconds": 20}
    return served_recipe(
        name=f"trial-{uuid4().hex[:8]}",
        engine=engine | {"token_seconds": TOKEN_SECONDS, "max_sequences": AT_ONCE // 2},
        evaluate={"sampling": GREEDY},
        serve={"weights": {"student": 0.5}, "student": limits, "teacher": limits, "flush_seconds": 5},
    )


@dataclass
class Load:
    """What clients have had in answer so far."""

    ids: list[str] = field(default_factory=list[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    lost: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When each request that failed was asked and when it failed, on the monotonic clock."""

    def ask(self, user: str) -> None:
        """One request: answered, refused with a time to come again, or lost. Anything else is raised."""
        asked = time.monotonic()
        try:
            self.ids.append(ask(ADDRESS, user=user).id)
            end = "answered"
        except openai.APIStatusError as error:
            gone = "the engine is gone" in str(error) or error.status_code == 500
            if not gone:
                assert error.status_code in (429, 503), str(error)
                assert int(error.response.headers["retry-after"]) >= 1
            end = "lost" if gone else "refused"
        except openai.APIConnectionError:
            end = "lost"
        self.ends[end] += 1
        if end == "lost":
            self.lost.append((asked, time.monotonic()))

    def keep_asking(self, clients: int, seconds: float) -> None:
        """With that many clients for a while."""
        stop = time.monotonic() + seconds

        def one(number: int) -> None:
            asked = 0
            while time.monotonic() < stop:
                asked += 1
                self.ask(f"{number}-{asked}")

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, range(clients)))


def test_ten_minutes_at_twice_the_capacity(local_ray: None, tmp_path: Path) -> None:
    served = recipe()
    with deployed(served, tmp_path):
        load = Load()
        load.keep_asking(4 * AT_ONCE, 30)
        processes = [p for d in ("gateway", "controller", "base", "student") for p in replicas(served.name, d)]
        assert len(processes) == 4
        before = {process: process.memory_info().rss for process in processes}
        load.keep_asking(4 * AT_ONCE, SOAK_SECONDS)
        after = {process: process.memory_info().rss for process in processes}
    stored = events(tmp_path)
    print(f"{load.ends}; MiB grown: {[(after[p] - before[p]) / 2**20 for p in processes]}")
    assert load.lost == []
    # Clients that are refused come again at once, so that far more is asked than can be answered.
    assert load.ends["refused"] > load.ends["answered"] > 100
    answered = [row["request_id"] for row in stored if row["outcome"] == "answered"]
    assert sorted(answered) == sorted(load.ids)
    assert {row["outcome"] for row in stored} == {"answered", "refused"}
    assert {
        process.pid: after[process] - before[process]
        for process in processes
        if after[process] - before[process] > GROWTH
    } == {}


@pytest.mark.parametrize("deployment", ["student", "gateway", "controller"])
def test_a_killed_replica_loses_what_was_in_flight_on_it_and_no_event(
    local_ray: None, tmp_path: Path, deployment: str
) -> None:
    served = recipe()
    with deployed(served, tmp_path), ThreadPoolExecutor(1) as pool:
        load = Load()
        loading = pool.submit(load.keep_asking, AT_ONCE, 60)
        time.sleep(15)
        [victim] = replicas(served.name, deployment)
        killed = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        loading.result()
        assert ask(ADDRESS).id
    print(f"{deployment}: {load.ends}; lost {[(a - killed, b - killed) for a, b in load.lost]}")
    assert load.ends["answered"] > 20
    # In flight: asked before it was killed, or before that was noticed.
    assert all(asked < killed + NOTICED for asked, _ in load.lost)
    assert len(load.lost) <= (0 if deployment == "controller" else AT_ONCE)
    stored = Counter(row["request_id"] for row in events(tmp_path))
    assert set(load.ids) <= stored.keys()
    assert set(stored.values()) == {1}
