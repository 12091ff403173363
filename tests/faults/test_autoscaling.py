"""A cluster without any worker grows for the run and shrinks after it: Ray's autoscaler over its fake machines."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

from tests.faults.nodes import CPUS, STORE_BYTES, each_once, wait_for
from tests.jobs.test_submit import BUSY_MACHINE, RAY, end, free_port, wait_for_head
from tests.stages.runs import finished, start, write_corpus, write_recipe

pytestmark = pytest.mark.ray
IDLE_MINUTES = 0.1


@dataclass(frozen=True)
class Growing:
    """A cluster that starts with its head alone."""

    address: str
    machines: Callable[[], int]
    """How many there are, the head included."""


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
    address = f"{get_node_ip_address()}:{free_port()}"
    with TemporaryDirectory(prefix="r", dir="/tmp") as folder, open(Path(folder) / "log", "w") as log:
        config = Path(folder) / "autoscaling.json"
        config.write_text(json.dumps(autoscaling(address)))
        head = subprocess.Popen(
            [
                *[*RAY, "start", "--head", "--block", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"],
                *["--num-cpus=0", f"--object-store-memory={STORE_BYTES}", f"--autoscaling-config={config}"],
                *["--include-dashboard=false", "--disable-usage-stats", f"--ray-client-server-port={free_port()}"],
                f"--dashboard-agent-listen-port={free_port()}",
            ],
            env=os.environ
            | BUSY_MACHINE
            | {
                "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "1",
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_head(head, Path(log.name))
            yield Growing(address, lambda: _raylets(head.pid))
        finally:
            end(head)


def _raylets(head: int) -> int:
    found = 0
    for process in psutil.Process(head).children(recursive=True):
        try:
            found += process.name() == "raylet"
        except psutil.Error:
            continue
    return found


def test_machines_come_for_the_run_and_go_after_it(growing: Growing, tmp_path: Path, tiny_model: Path) -> None:
    assert growing.machines() == 1, "there were workers before anything asked for them"
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 80), "slow_oracle")
    process = start(["run", str(recipe), "--until", "curate"], tmp_path, RAY_ADDRESS=growing.address)
    wait_for(lambda: growing.machines() > 1 or process.poll() is not None)
    finished(process)
    each_once(tmp_path)
    wait_for(lambda: growing.machines() == 1)
