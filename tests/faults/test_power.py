"""Twenty moments at which power is lost under the whole command: each time the same command ends as if nothing had."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.faults.nodes import each_once, nodes, outcomes
from tests.heads import SLOW_HEAD
from tests.power import Disk, disk
from tests.stages.runs import run, start, write_corpus, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROWS = 160
Outcomes = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="module")
def own_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk(tmp_path_factory.mktemp("power")) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(own_disk: Disk) -> Iterator[Cluster]:
    with nodes(1) as started:
        yield started


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("recipe")
    recipe = write_recipe(folder, tiny_model, write_corpus(folder / "corpus.jsonl", ROWS), "slow_oracle")
    return ["run", str(recipe), "--until", "curate"]


@pytest.fixture(scope="module")
def undisturbed(
    command: list[str], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcomes, float]:
    """What becomes of each prompt, and the seconds that it takes."""
    root, begin = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    run(command, root, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    return outcomes(root), time.monotonic() - begin


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_moment(
    seed: int, command: list[str], cluster: Cluster, undisturbed: tuple[Outcomes, float], own_disk: Disk
) -> None:
    expected, seconds = undisturbed
    root = own_disk.folder / str(seed)
    process = start(command, root, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    time.sleep(random.Random(seed).uniform(0, seconds))
    own_disk.power_off()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    own_disk.power_on()
    run(command, root, RAY_ADDRESS=cluster.address, **SLOW_HEAD)
    each_once(root)
    assert outcomes(root) == expected
