"""While a server is replaced two of them write one experiment: neither loses what the other did."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from s2d_ray.data.storage import RemotePath
from s2d_ray.experiment.experiment import Experiment, OutOfDate
from s2d_ray.experiment.state import read_state
from tests.experiment.test_experiment import HOUR, RAMPED, SERVE, change
from tests.experiment.traffic import START
from tests.proxy import Proxy, once


@pytest.fixture(params=["here", "in object storage"])
def path(request: pytest.FixtureRequest, tmp_path: Path, remote: RemotePath) -> Path:
    return (tmp_path if request.param == "here" else remote) / "serving" / "experiment.json"


def test_of_servers_that_start_at_once_one_starts_the_experiment(path: Path) -> None:
    barrier = Barrier(4)

    def started(_: int) -> Experiment:
        barrier.wait()
        return Experiment(path, SERVE, START)

    with ThreadPoolExecutor(4) as pool:
        states = [server.state for server in pool.map(started, range(4))]
    assert states == 4 * [read_state(path)] and states[0].version == 1


def test_a_change_by_one_makes_the_other_out_of_date(path: Path) -> None:
    old, new = Experiment(path, SERVE, START), Experiment(path, SERVE, START)
    new.apply(change("stop", 1), START)
    with pytest.raises(OutOfDate, match="reload the page"):
        old.apply(change("stop", 1), START)
    assert read_state(path) == new.state
    # A roll-back goes through whatever came before.
    assert old.roll_back("guardrail", "errors", START).version == 3
    assert read_state(path) == old.state


def test_a_step_of_the_ramp_is_taken_once(path: Path) -> None:
    servers = [Experiment(path, RAMPED, START) for _ in range(2)]
    states = [server.advance(START + 2 * HOUR) for server in servers]
    assert states == 2 * [read_state(path)] and states[0].version == 2


def test_of_roll_backs_at_once_none_is_lost(path: Path) -> None:
    servers = [Experiment(path, SERVE, START) for _ in range(4)]
    barrier = Barrier(4)

    def roll_back(number: int) -> None:
        barrier.wait()
        servers[number].roll_back("ada", "a try", START + number * HOUR)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(roll_back, range(4)))
    assert read_state(path).version == 5


def test_a_change_that_is_heard_and_not_answered_is_made_once(remote: RemotePath, proxy: Proxy) -> None:
    path = remote / "experiment.json"
    experiment = Experiment(path, SERVE, START)
    for version, action in enumerate(("stop", "roll back"), start=2):
        proxy.mishap = once("unanswered", "PUT")
        assert experiment.apply(change(action, version - 1), START).version == version
        assert read_state(path) == experiment.state
    assert proxy.mishaps == 2


SERVER = """
import sys
from datetime import UTC, datetime
from s2d_ray.data.storage import location
from s2d_ray.experiment.experiment import Experiment, OutOfDate
from tests.experiment.test_experiment import SERVE, change

experiment, number = Experiment(location(sys.argv[1]), SERVE, datetime.now(UTC)), 0
while True:
    experiment.refresh()
    weights = {"student": round(0.001 * (number % 500), 3)}
    asked = change("weights", experiment.state.version, weights=weights, who=sys.argv[2], why=str(number))
    try:
        experiment.apply(asked, datetime.now(UTC))
    except OutOfDate:
        continue
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_of_servers_that_are_killed_no_change_is_lost_that_was_acknowledged(path: Path) -> None:
    servers = {
        name: subprocess.Popen([sys.executable, "-c", SERVER, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in ("ada", "bob")
    }
    acknowledged = set[tuple[str, str]]()
    for name, server in servers.items():
        assert server.stdout is not None
        acknowledged |= {(name, server.stdout.readline().strip()) for _ in range(10)}
    for name, server in servers.items():
        server.kill()
        said, _ = server.communicate()
        acknowledged |= {(name, number) for number in said.split()}
    revisions = read_state(path).revisions
    recorded = [(revision.who, revision.why) for revision in revisions[1:]]
    assert [revision.version for revision in revisions] == list(range(1, len(revisions) + 1))
    assert len(recorded) == len(set(recorded)) and acknowledged <= set(recorded)
    # What was written as one was killed may not have been acknowledged any more.
    assert len(recorded) - len(acknowledged) <= 2
