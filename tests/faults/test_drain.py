"""Nodes that are taken away with a warning, as spot machines are: what has begun there is finished, the rest is not."""

import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from s2d_ray.data.files import part_files, read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from tests.faults.nodes import add, each_once, lose, nodes, wait_for, wait_for_node_with, warn
from tests.faults.test_nodes import TRAINING
from tests.stages.runs import finished, ids, start, write_corpus, write_recipe
from tests.stages.test_resume import steps_logged

pytestmark = pytest.mark.ray
ROWS = 128
WARNING = 10
"""Seconds between the warning and the loss."""
NOTICE = 4.0
"""Seconds until a warning is known to all and what had begun in that moment is under way."""


class Call(NamedTuple):
    """One call of the script."""

    time: float
    node: str
    text: str


def calls(log: Path) -> list[Call]:
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []
    return [Call(float(when), node, text) for when, node, text in lines]


def noting_run(root: Path, model: Path, log: Path, engines: int) -> list[str]:
    """A command whose engines answer four prompts a second each, and write down what they are asked."""
    corpus = root / "corpus.csv"
    corpus.write_text("prompt\n" + "".join(f"case {i} {log}\n" for i in range(ROWS)))
    recipe = write_recipe(
        root,
        model,
        corpus,
        method="direct",
        engine={
            "kind": "scripted",
            "script": "tests.scripts:noted",
            "max_sequences": 8,
            "min_engines": engines,
            "max_engines": engines,
        },
        generate={"samples": 1, "commit_rows": 8, "concurrent_rows": 8},
    )
    return ["run", str(recipe), "--until", "generate"]


def test_a_drained_node_finishes_what_it_has_begun_and_begins_nothing(tmp_path: Path, tiny_model: Path) -> None:
    log = tmp_path / "log"
    command = noting_run(tmp_path, tiny_model, log, engines=2)
    with nodes(2) as cluster:
        process = start(command, tmp_path, RAY_ADDRESS=cluster.address)
        wait_for(lambda: len({call.node for call in calls(log)}) == 2 and len(calls(log)) > 24)
        [drained, *_] = cluster.worker_nodes
        warn(cluster, drained, WARNING)
        warned = time.time()
        time.sleep(warned + WARNING - time.time())
        lost = time.time()
        lose(cluster, drained)
        finished(process)
    each_once(tmp_path, ["candidates"])
    texts = [call.text for call in calls(log)]
    assert len(texts) == len(set(texts)), "prompts were answered twice"

    by_text = {call.text: call for call in calls(log)}
    parts = {
        path: [by_text[row["messages"][0]["content"]] for row in pq.read_table(path).to_pylist()]
        for path in part_files(tmp_path / "trial" / "candidates")
    }
    there = {path: min(call.time for call in part) for path, part in parts.items() if part[0].node == drained.node_id}
    assert there, "the node had nothing to do"
    assert max(there.values()) < warned + NOTICE, "a part was begun after the warning"
    assert all(path.stat().st_mtime < lost for path in there)
    # The others went on meanwhile.
    assert any(call.node != drained.node_id and call.time > warned + NOTICE for call in calls(log))


@pytest.mark.long
def test_a_run_whose_only_node_is_drained_waits_for_another(tmp_path: Path, tiny_model: Path) -> None:
    log = tmp_path / "log"
    command = noting_run(tmp_path, tiny_model, log, engines=1)
    with nodes(1) as cluster:
        process = start(command, tmp_path, RAY_ADDRESS=cluster.address)
        wait_for(lambda: len(calls(log)) > 24)
        [only] = cluster.worker_nodes
        warn(cluster, only, WARNING)
        time.sleep(WARNING)
        lose(cluster, only)
        time.sleep(5)
        assert process.poll() is None, process.communicate()[0]
        before = len(calls(log))
        add(cluster)
        finished(process)
    each_once(tmp_path, ["candidates"])
    assert before < len(calls(log)) == len(ids(tmp_path / "trial" / "prompts")), "prompts were answered twice"


@pytest.mark.long
@pytest.mark.train
def test_a_warning_in_training_makes_a_checkpoint_from_which_it_goes_on(tmp_path: Path, tiny_model: Path) -> None:
    # No other checkpoint before the last step, and no failure is allowed.
    train = {"epochs": 40, "batch_size": 4, "micro_batch_size": 1, "checkpoint_steps": 10_000, "max_failures": 0}
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 60), train=train)
    model = tmp_path / "trial" / "model"
    with nodes(2) as cluster:
        process = start(["run", str(recipe), "--until", "train"], tmp_path, RAY_ADDRESS=cluster.address)
        wait_for(lambda: len(steps_logged(model)) >= 20)
        first = (model / TRAINING_LOG).read_text().splitlines()[:20]
        drained = wait_for_node_with(cluster, TRAINING)
        warn(cluster, drained, WARNING)
        time.sleep(WARNING)
        assert process.poll() is None, "training ended too early"
        lose(cluster, drained)
        finished(process)
    assert (model / TRAINING_LOG).read_text().splitlines()[:20] == first, "training began anew"
    steps = [entry["step"] for entry in read_json_lines(model / TRAINING_LOG)]
    assert steps == list(range(1, read_json(model / "manifest.json")["steps"] + 1))
