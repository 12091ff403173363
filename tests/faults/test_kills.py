"""Thirty moments at which everything may die: each time the same command ends as if nothing had happened."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.faults.nodes import add, each_once, lose, nodes, outcomes
from tests.heads import SLOW_HEAD
from tests.stages.runs import finished, run, start, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROWS = 160
"""About as long in generating and in curating as the command takes to start."""
Outcomes = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with nodes(1) as started:
        yield started


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    corpus = write_corpus(folder / "corpus.jsonl", ROWS)
    engine = {"kind": "scripted", "script": "tests.scripts:slow_oracle", "min_engines": 2, "max_engines": 2}
    slow_rule = {"rules": [{"name": "tests.scripts:SlowRule"}]}
    return write_recipe(folder, tiny_model, corpus, engine=engine, curate=slow_rule)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, float]:
    """What becomes of each prompt, and the seconds that it takes."""
    root, begin = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    run(["run", str(recipe), "--until", "curate"], root, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    return outcomes(root), time.monotonic() - begin


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_moment(
    seed: int, recipe: Path, cluster: Cluster, undisturbed: tuple[Outcomes, float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    moment = random.Random(seed).uniform(0, seconds)
    command = ["run", str(recipe), "--until", "curate"]
    process = start(command, tmp_path, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    time.sleep(moment)
    if seed % 2:
        # The driver, and the same command again.
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        run(command, tmp_path, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    else:
        # The node under it, and another in its place.
        [node] = cluster.worker_nodes
        lose(cluster, node)
        add(cluster)
        finished(process)
    each_once(tmp_path)
    assert outcomes(tmp_path) == expected
