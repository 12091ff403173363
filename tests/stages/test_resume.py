"""`kill -9` at some moment, the same command again: the same ids, each once, and nothing done twice."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from s2d_ray.data.shards import parts_done
from tests.stages.runs import PATIENCE, by_id, finished, ids, run, start, write_corpus, write_recipe

ROWS = 160
FEW_PARTS = 2


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = PATIENCE) -> None:
    """Until it has happened; fails where the process ends or time runs out before."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, f"ended too early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def descendants(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes below the command that have `name` in their title."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if name in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_driver(process: subprocess.Popen[str]) -> None:
    """As a machine's owner would: the command, at once. What it started ends by itself."""
    # Ray's own agents look for their raylet now and then, and end a little later.
    below = [c for c in psutil.Process(process.pid).children(recursive=True) if "Agent" not in c.name()]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE], "orphans are left"


@pytest.fixture
def slow_run(tmp_path: Path, tiny_model: Path) -> tuple[Sequence[str], Path]:
    """A command that generates for some seconds, and its results folder."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "slow_oracle")
    return ["run", str(recipe), "--until", "curate"], tmp_path


@pytest.mark.ray
def test_a_killed_driver(slow_run: tuple[Sequence[str], Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    command, root = slow_run
    candidates = root / "trial" / "candidates"
    process = start(command, root)
    wait_for(lambda: parts_done(candidates) >= FEW_PARTS, process)
    kill_driver(process)
    before = parts_done(candidates)
    run(command, root)
    manifest = read_json(candidates / "manifest.json")
    assert manifest["resumed"] >= before * 8, "finished prompts were generated again"
    assert manifest["generated_now"] + manifest["resumed"] == manifest["rows"]
    assert ids(candidates) == ids(root / "trial" / "prompts")
    assert set(ids(candidates).values()) == {1}
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    run(command, undisturbed)
    for status in ("kept", "rejected"):
        there = by_id(undisturbed / "trial" / "distilled", status)
        assert by_id(root / "trial" / "distilled", status) == there


@pytest.mark.long
@pytest.mark.ray
def test_a_killed_engine_actor(slow_run: tuple[Sequence[str], Path]) -> None:
    command, root = slow_run
    candidates = root / "trial" / "candidates"
    process = start(command, root)
    wait_for(lambda: parts_done(candidates) >= FEW_PARTS, process)
    [actor] = descendants(process, "MapWorker(MapBatches(EngineActor))")
    actor.kill()
    finished(process)
    assert ids(candidates) == ids(root / "trial" / "prompts")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """A recipe that trains long enough to be killed, and a root where its prompts are curated."""
    folder = tmp_path_factory.mktemp("curated")
    corpus = write_corpus(folder / "corpus.jsonl", 60)
    train = {"epochs": 15, "batch_size": 4, "micro_batch_size": 4, "checkpoint_steps": 5, "max_failures": 2}
    recipe = write_recipe(folder, tiny_model, corpus, train=train)
    run(["run", str(recipe), "--until", "curate"], folder)
    return recipe, folder


@pytest.fixture
def training_run(curated: tuple[Path, Path], tmp_path: Path) -> tuple[Sequence[str], Path]:
    """A command that trains, and a root of its own for it."""
    recipe, folder = curated
    shutil.copytree(folder / "trial", tmp_path / "trial", symlinks=True)
    return ["train", str(recipe)], tmp_path


def steps_logged(model: Path) -> list[int]:
    try:
        return [entry["step"] for entry in read_json_lines(model / TRAINING_LOG)]
    except (FileNotFoundError, ValueError):
        return []


@pytest.mark.train
@pytest.mark.long
def test_training_goes_on_after_a_killed_driver(training_run: tuple[Sequence[str], Path]) -> None:
    command, root = training_run
    model = root / "trial" / "model"
    process = start(command, root)
    wait_for(lambda: len(steps_logged(model)) >= 20, process)
    kill_driver(process)
    started = (model / TRAINING_LOG).read_text().splitlines()[0]
    run(command, root)
    assert (model / TRAINING_LOG).read_text().splitlines()[0] == started, "training began anew"
    steps = steps_logged(model)
    assert steps == list(range(1, read_json(model / "manifest.json")["steps"] + 1))
    assert not list(model.glob("_train*"))


@pytest.mark.train
@pytest.mark.long
def test_training_goes_on_after_a_killed_worker(training_run: tuple[Sequence[str], Path]) -> None:
    command, root = training_run
    model = root / "trial" / "model"
    process = start(command, root)
    wait_for(lambda: len(steps_logged(model)) >= 20, process)
    started = (model / TRAINING_LOG).read_text().splitlines()[0]
    [worker] = descendants(process, "RayTrainWorker")
    worker.kill()
    finished(process)
    assert (model / TRAINING_LOG).read_text().splitlines()[0] == started, "training began anew"
    assert steps_logged(model) == list(range(1, read_json(model / "manifest.json")["steps"] + 1))
