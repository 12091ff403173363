"""A cluster that starts with its head alone: Ray's autoscaler over its fake machines."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import Any

import psutil
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

from tests.faults.nodes import STORE_BYTES, below
from tests.heads import Started, free_port, started

IDLE_MINUTES = 0.1
SETTINGS = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}
"""What makes a head one of Ray's fake machines."""
Groups = Mapping[str, Mapping[str, int]]
"""Node type → resources of each of its machines, of which there may be two."""


@dataclass(frozen=True)
class Growing:
    """The cluster."""

    address: str
    head: Started

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that joins it."""
        return {**self.head.environment, "RAY_ADDRESS": self.address}

    def workers(self) -> list[psutil.Process]:
        """The raylets of the machines that the autoscaler has added, and not taken away yet."""
        head = psutil.Process(self.head.process.pid)
        own = below(head, f"--node_id={FAKE_HEAD_NODE_ID}")
        return [raylet for raylet in below(head, "raylet/raylet ") if raylet not in own]


@contextmanager
def growing(groups: Groups, **environment: str) -> Iterator[Growing]:
    """A head with Ray's autoscaler. Not `AutoscalingCluster`, which first ends every Ray on the machine."""
    port = free_port()
    address = f"{get_node_ip_address()}:{port}"
    with NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(_launcher_config(address, groups), config)
        config.flush()
        head_options = ["--num-cpus=0", f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"]
        scaling = f"--autoscaling-config={config.name}"
        with started(port, *head_options, scaling, **SETTINGS, **environment) as head:
            yield Growing(address, head)


def _launcher_config(address: str, groups: Groups) -> dict[str, Any]:
    """What a cluster launcher would be given."""
    types = {
        name: {
            "resources": {**resources, "object_store_memory": STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        }
        for name, resources in groups.items()
    }
    return {
        "cluster_name": "growing",
        "max_workers": 2 * len(groups),
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
            **types,
        },
        "head_node_type": "ray.head.default",
        **{f"{where}setup_commands": [] for where in ("", "head_", "worker_")},
        **{f"{which}_start_ray_commands": [] for which in ("head", "worker")},
        "file_mounts": {},
        "cluster_synced_files": [],
    }
