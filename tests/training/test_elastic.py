"""An elastic training on a cluster of several nodes, of which one is lost or one more comes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from tests.training.trial import trained

T = TypeVar("T")
pytestmark = [pytest.mark.ray, pytest.mark.train, pytest.mark.long]
PATIENCE = 3600.0
"""Seconds that a busy machine is given for what takes two minutes on a quiet one."""

SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "learning_rate": 1e-3,
    "batch_size": 6,
    "micro_batch_size": 1,
    "epochs": 1000,
    "checkpoint_steps": 5,
    "keep_checkpoints": 1,
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster of a head without cores; the test adds nodes, each with room for one worker."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 2**27}
    made = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=made.address, namespace="s2d", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def add_node(cluster: Any) -> Any:
    node = cluster.add_node(num_cpus=1, object_store_memory=2**27)
    cluster.wait_for_nodes()
    return node


def steps_of(log: Path, workers: int) -> int:
    """Steps logged so far on so many workers."""
    try:
        return sum(entry["workers"] == workers for entry in read_json_lines(log))
    except (FileNotFoundError, ValueError):
        return 0


def wait_for(happened: Callable[[], bool]) -> None:
    """Until it has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def in_background(training: Callable[[], T]) -> Future[T]:
    """Train in a thread: Ray starts nodes in the main one only."""
    with_one_thread = ThreadPoolExecutor(1)
    future = with_one_thread.submit(training)
    with_one_thread.shutdown(wait=False)
    return future


@pytest.mark.parametrize(
    "settings",
    [
        {"zero_stage": 2, "lora": {"rank": 4}},
        {"zero_stage": 3, "lora": {"rank": 4}},
        {"zero_stage": 2, "lora": None},
        {"zero_stage": 3, "lora": None},
    ],
)
def test_a_lost_node_leaves_the_training_to_the_others(
    settings: dict[str, Any], cluster: Any, tmp_path: Path, tiny_model: Path
) -> None:
    add_node(cluster)
    lost = add_node(cluster)
    model = tmp_path / "elastic" / "model"
    settings = settings | SETTINGS | {"steps": 40}
    training = in_background(lambda: trained(tmp_path / "elastic", tiny_model, workers=[1, 2], **settings))
    wait_for(lambda: training.done() or steps_of(model / TRAINING_LOG, 2) >= 22)
    cluster.remove_node(lost, allow_graceful=False)
    kept = len(list(model.glob("_train*/checkpoint_*")))
    assert kept <= 2, "one of four is kept, and the next may be in the making"
    folder, found = training.result(timeout=PATIENCE)
    steps = read_json(folder / "manifest.json")["steps_by_workers"]
    assert [entry["step"] for entry in found] == list(range(1, 41))
    assert [entry["workers"] for entry in found] == [2] * steps["2"] + [1] * steps["1"]
    assert steps["2"] >= 15, "more was done again than since the last checkpoint, or the one before if it was not noted"
    _, alone = trained(tmp_path / "alone", tiny_model, workers=1, **settings)
    for expected, entry in zip(alone, found, strict=True):
        assert entry["loss"] == pytest.approx(expected["loss"], rel=0.01)


def test_a_node_that_comes_is_taken_in(
    cluster: Any, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2d_ray.stages.train.RESIZE_SECONDS", 2.0)
    add_node(cluster)
    log = tmp_path / "model" / TRAINING_LOG
    # For longer than Ray takes to notice that there is more room: it counts every 20 s.
    settings = SETTINGS | {"batch_size": 64, "steps": 300}
    training = in_background(lambda: trained(tmp_path, tiny_model, rows=64, workers=[1, 2], **settings))
    wait_for(lambda: training.done() or steps_of(log, 1) >= 6)
    add_node(cluster)
    folder, found = training.result(timeout=PATIENCE)
    steps = read_json(folder / "manifest.json")["steps_by_workers"]
    assert [entry["step"] for entry in found] == list(range(1, 301))
    assert [entry["workers"] for entry in found] == [1] * steps["1"] + [2] * steps["2"]
