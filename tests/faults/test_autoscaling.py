"""A cluster without any worker grows for the run and shrinks after it: Ray's autoscaler over its fake machines."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import psutil
import pytest
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

from tests.faults.nodes import CPUS, STORE_BYTES, below, each_once, wait_for
from tests.faults.test_nodes import ENGINE
from tests.heads import Started, free_port, started
from tests.stages.runs import finished, start, write_corpus, write_recipe

pytestmark = pytest.mark.ray
IDLE_MINUTES = 0.1
SETTINGS = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}
"""What makes a head one of Ray's fake machines."""


@dataclass(frozen=True)
class Growing:
    """A cluster that starts with its head alone."""

    address: str
    head: Started

    def workers(self) -> list[psutil.Process]:
        """The raylets of the machines that the autoscaler has added, and not taken away yet."""
        head = psutil.Process(self.head.process.pid)
        own = below(head, f"--node_id={FAKE_HEAD_NODE_ID}")
        return [raylet for raylet in below(head, "raylet/raylet ") if raylet not in own]


def autoscaling(address: str) -> dict[str, Any]:
    """What a cluster launcher would be given."""
    worker = {"CPU": CPUS, "object_store_memory": STORE_BYTES}
    return {
        "cluster_name": "growing",
        "max_workers": 2,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            # By its module: what `fake_multinode` stands for wants a file that is not in Ray's wheel.
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        **{f"{where}setup_commands": [] for where in ("", "head_", "worker_")},
        **{f"{which}_start_ray_commands": [] for which in ("head", "worker")},
        "file_mounts": {},
        "cluster_synced_files": [],
    }


@pytest.fixture
def growing() -> Iterator[Growing]:
    """A head with Ray's autoscaler. Not `AutoscalingCluster`, which first ends every Ray on the machine."""
    port = free_port()
    address = f"{get_node_ip_address()}:{port}"
    with NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(autoscaling(address), config)
        config.flush()
        options = ["--num-cpus=0", f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"]
        with started(port, *options, f"--autoscaling-config={config.name}", **SETTINGS) as head:
            yield Growing(address, head)


def test_machines_come_for_the_run_and_go_after_it(growing: Growing, tmp_path: Path, tiny_model: Path) -> None:
    assert not growing.workers(), "there were workers before anything asked for them"
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 80), "slow_oracle")
    environment = {**growing.head.environment, "RAY_ADDRESS": growing.address}
    process = start(["run", str(recipe), "--until", "curate"], tmp_path, **environment)
    wait_for(lambda: process.poll() is not None or any(below(worker, ENGINE) for worker in growing.workers()))
    early = process.poll() is not None
    finished(process)
    assert not early, "the run ended before a worker was seen with an engine"
    each_once(tmp_path)
    wait_for(lambda: not growing.workers())
