"""A cluster without any worker grows for the run and shrinks after it: Ray's autoscaler over its fake machines."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2d_ray.data.lease import time_spent
from s2d_ray.serving.ray_settings import SERVING_SETTINGS
from s2d_ray.stages.placement import PATIENCE_SECONDS
from tests.faults.growing import Growing, growing
from tests.faults.nodes import CPUS, below, each_once, wait_for
from tests.faults.test_nodes import ENGINE
from tests.heads import free_port
from tests.serving.gateways import ask
from tests.stages.runs import COMMAND, PATIENCE, REPOSITORY, exit_code, finished, run, start, write_corpus, write_recipe

pytestmark = pytest.mark.ray
GPUS = 2
GROUPS = {"gpu": {"CPU": CPUS, "GPU": GPUS}, "cpu": {"CPU": CPUS}}
# It takes the GPUs that are declared, without using them.
SCRIPTED = {"kind": "scripted", "script": "tests.scripts:slow_oracle", "device": "gpu"}


@pytest.fixture
def cpu_group() -> Iterator[Growing]:
    with growing({"cpu": {"CPU": CPUS}}) as cluster:
        yield cluster


@pytest.fixture
def two_groups() -> Iterator[Growing]:
    with growing(GROUPS, **SERVING_SETTINGS) as cluster:
        yield cluster


@pytest.mark.long
def test_machines_come_for_the_run_and_go_after_it(cpu_group: Growing, tmp_path: Path, tiny_model: Path) -> None:
    assert not cpu_group.workers(), "there were workers before anything asked for them"
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 80), "slow_oracle")
    process = start(["run", str(recipe), "--until", "curate"], tmp_path, **cpu_group.environment)
    wait_for(lambda: process.poll() is not None or any(below(worker, ENGINE) for worker in cpu_group.workers()))
    early = process.poll() is not None
    finished(process)
    assert not early, "the run ended before a worker was seen with an engine"
    each_once(tmp_path)
    wait_for(lambda: not cpu_group.workers())


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> str:
    """Generates for some seconds, which are counted by the GPUs held, and trains two workers."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", 80)
    train = {"steps": 2, "workers": GPUS, "batch_size": 4}
    return str(write_recipe(tmp_path, tiny_model, corpus, engine=SCRIPTED, train=train))


def test_gpu_machines_come_for_engines_and_training_and_go_after_it(
    two_groups: Growing, tmp_path: Path, recipe: str
) -> None:
    """No GPU is there when anything is placed, and the training does not even ask for one by name."""
    run_with = ["run", recipe, "engine.tensor_parallel=2", "--until", "train"]
    said = run(run_with, tmp_path, **two_groups.environment)
    assert "waiting for the cluster to add nodes for an engine: 1 CPU and 2 GPUs on one node" in said
    spent = time_spent(tmp_path / "trial")
    for artifact in ("candidates", "model"):
        assert spent[artifact].gpu_seconds > 0, f"{artifact} was made without GPUs"
    wait_for(lambda: not two_groups.workers())


@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine.tensor_parallel=3", "no room for an engine: that takes 1 CPU and 3 GPUs on one node"),
        ("train.workers=5", "no room for the training's workers: that takes 1 CPU and 1 GPU, 5 times"),
    ],
)
def test_what_no_machine_can_hold_is_refused_within_a_minute(
    override: str, said: str, two_groups: Growing, tmp_path: Path, recipe: str
) -> None:
    if override.startswith("train"):
        run(["run", recipe, "--until", "curate"], tmp_path, **two_groups.environment)
    asked = time.monotonic()
    printed = start(["run", recipe, override, "train.batch_size=8"], tmp_path, **two_groups.environment)
    output = printed.communicate(timeout=PATIENCE)[0]
    assert exit_code(output) == 1
    assert said in output
    # Ray takes some seconds to be joined.
    assert time.monotonic() - asked < PATIENCE_SECONDS + 40


@pytest.mark.long
def test_gpu_machines_come_for_serving_and_go_after_it(two_groups: Growing, tmp_path: Path, recipe: str) -> None:
    run(["run", recipe], tmp_path, **two_groups.environment)
    wait_for(lambda: not two_groups.workers())
    _serve(two_groups, ["serve", recipe], tmp_path)
    wait_for(lambda: not two_groups.workers())


def _serve(cluster: Growing, command: list[str], root: Path) -> None:
    """Both arms answer, on machines that were not there; the server is stopped again."""
    port, output = free_port(), root / "served"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | cluster.environment
    with output.open("w") as file:
        serving = subprocess.Popen(
            [*COMMAND, *command, "--root", str(root), "--port", str(port)],
            cwd=REPOSITORY,
            env=environment,
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(lambda: serving.poll() is not None or "answers at" in output.read_text())
        assert serving.poll() is None, output.read_text()
        assert len(cluster.workers()) == 1, "two engines of one GPU each have room on one machine"
        for model in ("s2d:student", "s2d:teacher"):
            assert ask(f"http://127.0.0.1:{port}", model).choices[0].message.content
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(120)
