"""Where engines go, and what is said where they cannot."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from s2d_ray.data.files import read_rows
from s2d_ray.recipes.sections import Engine, Train
from s2d_ray.stages.cluster import joined
from s2d_ray.stages.placement import PATIENCE_SECONDS, can_hold, engine_device, require_training, training_device
from tests.faults.nodes import STORE_BYTES
from tests.stages.runs import PATIENCE, exit_code, ids, run_here, start, write_corpus, write_recipe

pytestmark = pytest.mark.ray
SCRIPTED = {"kind": "scripted", "script": "tests.scripts:oracle", "device": "gpu"}


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two GPUs each, as Ray counts, and a head without any."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=4, num_gpus=2, object_store_memory=STORE_BYTES)
    ray.init(cluster.address, log_to_driver=False)
    try:
        with joined(tmp_path_factory.mktemp("logs")):
            yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def engine(**settings: object) -> Engine:
    return Engine.model_validate(settings)


def test_an_engine_of_several_gpus_is_on_one_node_unless_its_groups_of_layers_may_be_apart(two_nodes: Cluster) -> None:
    assert can_hold(*engine(tensor_parallel=2).bundles("gpu"))
    assert not can_hold(*engine(tensor_parallel=4).bundles("gpu"))
    assert can_hold(*engine(tensor_parallel=2, pipeline_parallel=2).bundles("gpu"))
    assert not can_hold(*engine(tensor_parallel=2, pipeline_parallel=3).bundles("gpu"))


def test_the_declared_device_counts_and_otherwise_what_the_cluster_has(two_nodes: Cluster) -> None:
    assert engine_device(engine()) == "gpu"
    assert engine_device(engine(device="cpu")) == "cpu"
    assert engine_device(engine(kind="scripted")) == "cpu"
    assert training_device(Train()) == "gpu"
    assert training_device(Train(device="cpu")) == "cpu"
    assert require_training(Train(workers=4)) == "gpu"


def test_generation_with_an_engine_on_two_nodes_holds_the_gpus_of_both(
    two_nodes: Cluster, tmp_path: Path, unread_model: Path
) -> None:
    """A script uses none of them: this is about what Ray sets aside."""
    sized = SCRIPTED | {"script": "tests.stages.test_placement:free_gpus", "tensor_parallel": 2, "pipeline_parallel": 2}
    corpus = write_corpus(tmp_path / "corpus.jsonl", 8)
    recipe = write_recipe(tmp_path, unread_model, corpus, engine=sized, method="direct", train={"dtype": "float32"})
    base = run_here(recipe, tmp_path, "generate", **{"engine.dtype": "float32"})
    assert ids(base / "candidates") == ids(base / "prompts")
    said = {sample["text"] for row in read_rows(base / "candidates") for sample in row["samples"]}
    assert said == {"0 GPUs are free"}
    deadline = time.monotonic() + 60
    while ray.available_resources().get("GPU") != 4:
        assert time.monotonic() < deadline, "training would wait for what the engine holds"
        time.sleep(0.2)


def free_gpus(messages: object, random: object) -> str:
    """What is left for others while an engine answers."""
    return f"{ray.available_resources().get('GPU', 0):g} GPUs are free"


def test_a_machine_alone_says_at_once_what_it_cannot_hold_and_never_takes_cpus_instead(
    tmp_path: Path, tiny_model: Path
) -> None:
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 8))
    for folder, override, said in (
        ("scripted", "engine.device=gpu", "1 CPU and 1 GPU on one node"),
        ("real", "engine={kind: vllm, dtype: float32, tensor_parallel: 2}", "1 CPU and 2 GPUs on one node"),
    ):
        asked = time.monotonic()
        process = start(
            ["run", str(recipe), override, "train.dtype=float32", "engine.dtype=float32"], tmp_path / folder
        )
        printed, _ = process.communicate(timeout=PATIENCE)
        assert exit_code(printed) == 1
        assert f"no room for an engine: that takes {said}; the largest node here has " in printed
        assert time.monotonic() - asked < PATIENCE_SECONDS, "a machine alone gets no others to wait for"
