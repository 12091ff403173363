"""Where engines and training workers go: on GPUs or CPUs, and whether the cluster can hold them at all.

A cluster that grows has none of the machines yet that it will have. So it is asked: a placement group is made, and
Ray's autoscaler says whether one of its node types can hold it. It is gone again as soon as that is known.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
from ray.experimental.internal_kv import internal_kv_get_gcs_client
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from s2d_ray.devices import has_cuda_build
from s2d_ray.errors import UserError
from s2d_ray.recipes.sections import Bundle, Device, Engine, Train
from s2d_ray.terminal import console

PATIENCE_SECONDS = 45.0
"""For a machine that fits to join a cluster that others run, where nothing says that one is coming."""
ANSWER_SECONDS = 30.0
"""For the autoscaler to say what it makes of a request; it looks every 5 s."""
SECONDS_BETWEEN_LOOKS = 0.5
CHANGE_ENGINE: Mapping[Device, str] = {
    "gpu": "lower engine.tensor_parallel (above a node's GPUs: engine.pipeline_parallel), or set engine.device=cpu",
    "cpu": "lower engine.cpus",
}


def engine_device(engine: Engine) -> Device:
    """What an engine computes with, on the cluster that is joined.

    Raises UserError where the build of vLLM cannot.
    """
    if engine.kind == "scripted":
        return "gpu" if engine.device == "gpu" else "cpu"
    if engine.device == "cpu" and has_cuda_build():
        raise UserError("vLLM's CUDA build cannot compute on CPUs: install its CPU build, or set engine.device=gpu")
    if engine.device != "auto":
        return engine.device
    return "gpu" if engine.gpus > 1 or has_cuda_build() or can_hold(*engine.bundles("gpu")) else "cpu"


def training_device(train: Train) -> Device:
    """What training workers compute with, on the cluster that is joined."""
    if train.device != "auto":
        return train.device
    return "gpu" if has_cuda_build() or can_hold(*train.bundles("gpu")[:1]) else "cpu"


def require_engine(engine: Engine, patience: float = PATIENCE_SECONDS) -> Device:
    """What an engine computes with. Raises UserError where no machine can hold one, after `patience` seconds."""
    device = engine_device(engine)
    if device == "gpu" and engine.kind == "vllm" and not has_cuda_build():
        console.print("  engines hold GPUs but compute on CPUs: the installed build of vLLM is the one for CPUs")
    _require(engine.bundles(device), "an engine", CHANGE_ENGINE[device], patience)
    return device


def require_training(train: Train, cores: int = 1) -> Device:
    """What training workers compute with. Raises UserError where not all of the fewest can be held, within a minute."""
    device = training_device(train)
    _require(train.bundles(device, cores), "the training's workers", "lower train.workers", PATIENCE_SECONDS)
    return device


def can_hold(*bundles: Bundle) -> bool:
    """Whether the cluster has the machines for these bundles, busy ones included, or its autoscaler can add them."""
    return _held(bundles) or (_may_get_nodes() and _could_grow(tuple(tuple(bundle.items()) for bundle in bundles)))


@contextmanager
def engine_places(engine: Engine, device: Device, **options: Any) -> Iterator[dict[str, Any]]:
    """For `map_batches`: what Ray sets aside for each engine actor, while the block runs; `options` are its others.

    An engine whose groups of layers may be on several nodes has a placement group, which vLLM finds.
    """
    bundles = engine.bundles(device)
    groups: list[PlacementGroup] = []

    def placed() -> dict[str, Any]:
        groups.append(placement_group(bundles, strategy="PACK"))
        return options | {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                groups[-1], placement_group_bundle_index=0, placement_group_capture_child_tasks=True
            )
        }

    try:
        yield {**engine_options(bundles), "ray_remote_args_fn": placed if len(bundles) > 1 else lambda: options}
    finally:
        for group in groups:
            remove_placement_group(group)


def engine_options(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """What an engine's actor asks for, in a placement group of these bundles if there are several.

    vLLM then starts a worker in each, which has the bundle's GPU.
    """
    return actor_options(bundles[0] if len(bundles) == 1 else bundles[0] | {"GPU": 0})


def actor_options(bundle: Bundle) -> dict[str, Any]:
    """The bundle as Ray's actors and tasks ask for it."""
    return {f"num_{name.lower()}s": amount for name, amount in bundle.items()}


def _require(bundles: Sequence[Bundle], what: str, change: str, patience: float) -> None:
    deadline = time.monotonic() + (patience if _may_get_nodes() else 0)
    each = _said(bundles[0]) + (" on one node" if len(bundles) == 1 else f", {len(bundles)} times")
    while not can_hold(*bundles):
        if time.monotonic() > deadline:
            raise UserError(
                f"no room for {what}: that takes {each}; the largest node here has {_said(_largest())}, and Ray can "
                f"add none that fits: add a node type that does, or {change}"
            )
        _could_grow.cache_clear()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if not _held(bundles):
        console.print(f"  waiting for the cluster to add nodes for {what}: {each}")


def _said(bundle: Bundle) -> str:
    return " and ".join(f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in bundle.items())


def _may_get_nodes() -> bool:
    """Whether Ray runs apart from this process: what it starts for itself is of this machine alone."""
    return ray._private.worker._global_node is None or not ray._private.worker._global_node.is_head()


def _nodes() -> list[dict[str, float]]:
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _largest() -> Bundle:
    return max(
        ({name: node.get(name, 0.0) for name in ("CPU", "GPU")} for node in _nodes()),
        key=lambda node: (node["GPU"], node["CPU"]),
    )


def _held(bundles: Sequence[Bundle]) -> bool:
    """Whether all of the bundles fit on the nodes together, if nothing else were on them."""
    nodes = _nodes()
    for bundle in bundles:
        room = next((node for node in nodes if all(node.get(n, 0) >= amount for n, amount in bundle.items())), None)
        if room is None:
            return False
        for name, amount in bundle.items():
            room[name] -= amount
    return True


@cache
def _could_grow(bundles: tuple[tuple[tuple[str, float], ...], ...]) -> bool:
    """Whether the autoscaler would add machines for these bundles. Asked once: it takes seconds."""
    group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
    asked = time.time()
    verdict, shown = None, None
    try:
        while verdict is None and time.time() < asked + ANSWER_SECONDS:
            status = GetClusterStatusReply.FromString(internal_kv_get_gcs_client().get_cluster_status())
            if shown is None and _pending(status, group):
                shown = status.cluster_resource_state.cluster_resource_state_version
            verdict = _answer(status, group, shown) if _has_autoscaler_v2(status) else _older_answer(asked)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return bool(verdict)
    finally:
        remove_placement_group(group)


def _has_autoscaler_v2(status: Any) -> bool:
    return bool(status.autoscaling_state.autoscaler_state_version)


def _pending(status: Any, group: PlacementGroup) -> bool:
    requests = status.cluster_resource_state.pending_gang_resource_requests
    return any(group.id.hex() in request.details for request in requests)


def _answer(status: Any, group: PlacementGroup, shown: int | None) -> bool | None:
    """Of the autoscaler once it has seen the state of the cluster in which the group was shown."""
    state = status.autoscaling_state
    if shown is None or state.last_seen_cluster_resource_state_version < shown:
        return None
    return not any(group.id.hex() in request.details for request in state.infeasible_gang_resource_requests)


def _older_answer(asked: float) -> bool | None:
    """Of Ray's first autoscaler, which shows what machines it starts, but not what it cannot start any for."""
    found = internal_kv_get_gcs_client().internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None)
    status: Mapping[str, Any] = json.loads(found) if found else {}
    if status.get("time", 0) < asked or not status["load_metrics_report"]["pg_demand"]:
        return None
    report = status.get("autoscaler_report") or {}
    return bool(report.get("pending_launches") or report.get("pending_nodes"))
