"""Several Ray nodes on this machine: their loss, and what runs on which."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from ray._private.node import Node
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from s2d_ray.data.files import read_rows
from tests.stages.runs import PATIENCE, ids

CPUS = max(3, os.cpu_count() or 1)
"""Of a worker node. Training takes one for each core of the machine; two engines take one each, and leave one."""
STORE_BYTES = 100 * 2**20
SETTINGS = {
    # A lost node is noticed after seconds instead of half a minute.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    # One that is merely slow is given its time.
    "agent_register_timeout_ms": 300_000,
    "worker_register_timeout_seconds": 300,
}


@contextmanager
def nodes(workers: int, object_store_memory: int = STORE_BYTES) -> Iterator[Cluster]:
    """A head on which nothing is computed, and so many workers; all end with the block."""
    store = {"object_store_memory": object_store_memory}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SETTINGS}
    cluster = Cluster(initialize_head=True, head_node_args=head | store)
    try:
        for _ in range(workers):
            add(cluster, object_store_memory)
        yield cluster
    finally:
        cluster.shutdown()


def add(cluster: Cluster, object_store_memory: int = STORE_BYTES) -> Node:
    """One more worker node."""
    node: Node = cluster.add_node(num_cpus=CPUS, object_store_memory=object_store_memory)
    return node


def lose(cluster: Cluster, node: Node) -> None:
    """All processes of a node end at once, as when a spot machine is taken away."""
    below = _processes_of(node)
    cluster.remove_node(node, allow_graceful=False)
    # A machine takes its workers with it; here they would notice a little later.
    for process in below:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(below, timeout=PATIENCE)


def warn(cluster: Cluster, node: Node, seconds: float) -> None:
    """Tell Ray what a cloud tells of a spot machine: that it is taken away in so many seconds."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
    deadline = int(1000 * (time.time() + seconds))
    accepted, refusal = GcsClient(address=cluster.address).drain_node(node.node_id, reason, "spot", deadline)
    assert accepted, refusal


def node_with(cluster: Cluster, title: str) -> Node | None:
    """A worker node with a process whose title has these words."""
    running: list[Node] = list(cluster.worker_nodes)
    return next((node for node in running if any(title in _title(p) for p in _processes_of(node))), None)


def below(process: psutil.Process, title: str) -> list[psutil.Process]:
    """All that a process has started, directly or not, whose title has these words."""
    return [found for found in process.children(recursive=True) if title in _title(found)]


def wait_for_node_with(cluster: Cluster, title: str) -> Node:
    """The worker node that such a process runs on, or comes to run on."""
    found: list[Node] = []

    def look() -> bool:
        node = node_with(cluster, title)
        found.extend([node] if node else [])
        return bool(found)

    wait_for(look)
    return found[0]


def wait_for(happened: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Until it has happened; fails where time runs out before."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def each_once(root: Path, folders: Sequence[str] = ("candidates", "distilled")) -> None:
    """Every prompt is in every one of these folders, once."""
    prompts = ids(root / "trial" / "prompts")
    assert set(prompts.values()) == {1}
    for folder in folders:
        assert ids(root / "trial" / folder) == prompts


def outcomes(root: Path) -> dict[str, tuple[str, str, str]]:
    """Prompt id → status, target and reason."""
    found = {}
    for status in ("kept", "rejected", "failed"):
        for row in read_rows(root / "trial" / "distilled" / f"status={status}", ["prompt_id", "target", "reason"]):
            found[row["prompt_id"]] = (status, row["target"], row["reason"])
    return found


def _processes_of(node: Node) -> list[psutil.Process]:
    [raylet] = node.all_processes["raylet"]
    try:
        below: list[psutil.Process] = psutil.Process(raylet.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return below


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # It has just ended.
        return ""
