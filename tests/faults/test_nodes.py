"""Nodes of a cluster that are lost in the middle of a stage, and the cluster itself: the run ends as if undisturbed."""

import subprocess
import time
from pathlib import Path

import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from s2d_ray.data.shards import parts_done
from tests.faults.nodes import add, each_once, lose, node_with, nodes, outcomes, wait_for, wait_for_node_with
from tests.stages.runs import PATIENCE, finished, run, start, write_corpus, write_recipe
from tests.stages.test_resume import FEW_PARTS, steps_logged

pytestmark = pytest.mark.ray
ENGINE = "MapWorker(MapBatches(EngineActor))"
CURATION = "MapBatches(answer)"
TRAINING = "RayTrainWorker"
ROWS = 160


@pytest.fixture
def slow(tmp_path: Path, tiny_model: Path) -> list[str]:
    """A command that generates for some seconds and curates for some more, with two engines."""
    engine = {"kind": "scripted", "script": "tests.scripts:slow_oracle", "min_engines": 2, "max_engines": 2}
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    recipe = write_recipe(
        tmp_path, tiny_model, corpus, engine=engine, curate={"rules": [{"name": "tests.scripts:SlowRule"}]}
    )
    return ["run", str(recipe), "--until", "curate"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, tuple[str, str, str]]:
    """What becomes of the same prompts where nothing is lost."""
    root = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(root, tiny_model, write_corpus(root / "corpus.jsonl", ROWS))
    run(["run", str(recipe), "--until", "curate"], root)
    return outcomes(root)


def start_and_wait(command: list[str], root: Path, **environment: str) -> subprocess.Popen[str]:
    """The command, once it has generated its first parts."""
    process = start(command, root, **environment)
    wait_for(lambda: parts_done(root / "trial" / "candidates") >= FEW_PARTS)
    return process


def test_a_node_lost_in_generate_and_another_in_curate(
    slow: list[str], tmp_path: Path, undisturbed: dict[str, tuple[str, str, str]]
) -> None:
    with nodes(2) as cluster:
        process = start_and_wait(slow, tmp_path, RAY_ADDRESS=cluster.address)
        lose(cluster, wait_for_node_with(cluster, ENGINE))
        add(cluster)
        lose(cluster, wait_for_node_with(cluster, CURATION))
        finished(process)
    each_once(tmp_path)
    assert outcomes(tmp_path) == undisturbed
    # The one attempt bore it: nothing was begun anew by hand.
    assert [path.name for path in (tmp_path / "trial" / "attempts").iterdir()] == ["00001.json"]


@pytest.mark.long
def test_a_run_waits_for_a_preempted_node_to_come_back(
    slow: list[str], tmp_path: Path, undisturbed: dict[str, tuple[str, str, str]]
) -> None:
    with nodes(1) as cluster:
        process = start_and_wait(slow, tmp_path, RAY_ADDRESS=cluster.address)
        [only] = cluster.worker_nodes
        lose(cluster, only)
        time.sleep(5)
        assert process.poll() is None, process.communicate()[0]
        add(cluster)
        finished(process)
    each_once(tmp_path)
    assert outcomes(tmp_path) == undisturbed


@pytest.mark.long
def test_after_the_loss_of_the_whole_cluster_the_same_command_goes_on_elsewhere(
    slow: list[str], tmp_path: Path, undisturbed: dict[str, tuple[str, str, str]]
) -> None:
    candidates = tmp_path / "trial" / "candidates"
    with nodes(1) as cluster:
        # How long the driver waits for its head to come back: a minute, unless told otherwise.
        patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
        process = start_and_wait(slow, tmp_path, RAY_ADDRESS=cluster.address, **patience)
        assert cluster.head_node is not None
        cluster.remove_node(cluster.head_node, allow_graceful=False)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode not in (0, None), said
        before = parts_done(candidates)
    with nodes(1) as cluster:
        run(slow, tmp_path, RAY_ADDRESS=cluster.address)
    manifest = read_json(candidates / "manifest.json")
    assert manifest["resumed"] >= before * 8, "finished prompts were generated again"
    each_once(tmp_path)
    assert outcomes(tmp_path) == undisturbed
    assert read_json(tmp_path / "trial" / "status.json")["attempt"] == 2


@pytest.mark.long
@pytest.mark.train
def test_a_node_lost_in_training(tmp_path: Path, tiny_model: Path) -> None:
    train = {"epochs": 12, "batch_size": 4, "micro_batch_size": 4, "checkpoint_steps": 5}
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 60), train=train)
    model = tmp_path / "trial" / "model"
    with nodes(2) as cluster:
        process: subprocess.Popen[str] = start(
            ["run", str(recipe), "--until", "train"], tmp_path, RAY_ADDRESS=cluster.address
        )
        wait_for(lambda: len(steps_logged(model)) >= 20)
        started = (model / TRAINING_LOG).read_text().splitlines()[0]
        node = node_with(cluster, TRAINING)
        assert node, "training ended too early"
        lose(cluster, node)
        finished(process)
    assert (model / TRAINING_LOG).read_text().splitlines()[0] == started, "training began anew"
    steps = [entry["step"] for entry in read_json_lines(model / TRAINING_LOG)]
    assert steps == list(range(1, read_json(model / "manifest.json")["steps"] + 1))
    assert (model / "model.safetensors").is_file()
