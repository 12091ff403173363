"""What does not fit, and the smallest change by which it would."""

from typing import Any

import pytest

from s2d_ray.planning.advice import advice, engine_changes, training_changes
from s2d_ray.planning.fit import changed, stages_of
from s2d_ray.planning.shapes import PUBLISHED
from s2d_ray.planning.sizing import Node
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Engine, Train

SMALL, MIDDLE, LARGE = (PUBLISHED[f"meta-llama/{name}"] for name in ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-2-70b"))
FULL = {
    "workers": 32,
    "zero_stage": 3,
    "lora": None,
    "batch_size": 64,
    "max_length": 2048,
    "gradient_checkpointing": True,
    "micro_batch_tokens": 4096,
}
"""A training of all of 70B that fits 32 GPUs of 80 GiB."""


def recipe(engine: dict[str, Any] | None = None, evaluate: dict[str, Any] | None = None, **train: object) -> Recipe:
    sections = {"engine": {"tensor_parallel": 4} | (engine or {}), "train": FULL | train, "evaluate": evaluate or {}}
    return Recipe.model_validate({"name": "mine", "model": "m", "task": "prompts", "method": "s2a"} | sections)


def test_what_fits_needs_no_change() -> None:
    assert advice(recipe(), LARGE, Node()) == ({}, [])


@pytest.mark.parametrize(
    ("missing", "change"),
    [
        ({"gradient_checkpointing": False}, {"train.gradient_checkpointing": True}),
        ({"micro_batch_tokens": 32768, "max_length": 8192, "batch_size": 128}, {"train.micro_batch_tokens": 16384}),
        ({"zero_stage": 2}, {"train.zero_stage": 3}),
        ({"workers": 8}, {"train.workers": 24}),
        ({"workers": 16, "batch_size": 16}, {"train.offload": "optimizer"}),
    ],
)
def test_the_setting_to_change_is_named_with_its_value(missing: dict[str, Any], change: dict[str, Any]) -> None:
    found = advice(recipe(**missing), LARGE, Node())
    assert found.changes == change
    [line] = found.lines
    [(key, value)] = change.items()
    assert line.startswith("train does not fit: ")
    assert line.endswith(f"GiB of a GPU's memory; the smallest change: {key}={str(value).lower()}")
    assert advice(changed(recipe(**missing), change), LARGE, Node()).lines == []


def test_several_settings_are_changed_where_one_is_not_enough() -> None:
    wanted = recipe(workers=16, gradient_checkpointing=False, zero_stage=2)
    found = advice(wanted, LARGE, Node())
    assert found.changes.keys() == {"train.gradient_checkpointing", "train.zero_stage", "train.workers"}
    for key in found.changes:
        fewer = {other: value for other, value in found.changes.items() if other != key}
        assert advice(changed(wanted, fewer), LARGE, Node()).lines


def test_nothing_that_the_recipe_would_refuse_is_advised() -> None:
    quantized = Train.model_validate({"lora": {"quantize": "4bit"}, "batch_size": 4})
    changes = list(training_changes(quantized, Node()))
    assert changes
    assert all(change.get("train.zero_stage") != 3 for change in changes)
    assert all(change.get("train.workers", 1) <= 4 for change in changes)


def test_an_engine_takes_more_gpus_of_a_node_and_then_more_nodes() -> None:
    one = recipe({"tensor_parallel": 1})
    found = advice(one, LARGE, Node())
    assert found.changes == {"engine.tensor_parallel": 4}
    assert found.lines == [
        "generate does not fit: 136 of 68.0 GiB of a GPU's memory; the smallest change: engine.tensor_parallel=4"
    ]
    # On nodes of two such GPUs each.
    assert advice(one, LARGE, Node(gpus=2, disk_gib=9000, memory_gib=9000)).changes == {
        "engine.tensor_parallel": 2,
        "engine.pipeline_parallel": 2,
    }
    assert {"engine.tensor_parallel": 8} in list(engine_changes(Engine(), LARGE, Node()))
    assert all(c.get("engine.tensor_parallel", 1) <= 2 for c in engine_changes(Engine(), LARGE, Node(gpus=2)))


def test_an_engine_wider_than_a_node_is_split_over_nodes() -> None:
    found = advice(recipe({"tensor_parallel": 8}), LARGE, Node(gpus=4))
    assert found.changes == {"engine.tensor_parallel": 4}
    assert "8 of 4 GPUs of a node" in found.lines[0]


def test_memory_and_disk_of_nodes_count_too() -> None:
    offloaded = recipe(workers=16, batch_size=16, offload="optimizer")
    assert advice(offloaded, LARGE, Node()).lines == []
    [line] = advice(offloaded, LARGE, Node(memory_gib=512)).lines
    assert "of 512 GiB of a node's memory" in line
    [line] = advice(recipe(), LARGE, Node(disk_gib=400)).lines
    assert line == (
        "evaluate does not fit: 514 of 400 GiB of a node's disk; nodes with a disk of 514 GiB, or "
        "evaluate.controls=false"
    )
    assert advice(recipe(evaluate={"controls": False}), LARGE, Node(disk_gib=400)).lines == []
    [line] = advice(recipe(evaluate={"targets": ["shortest"]}), LARGE, Node(disk_gib=400)).lines
    assert line.endswith("a disk of 642 GiB, or evaluate.controls=false evaluate.targets=[]")


def test_what_fits_no_number_of_gpus_says_so() -> None:
    found = advice(recipe(zero_stage=0, batch_size=32), LARGE, Node(gpu_memory_gib=8))
    assert found.lines[-1].endswith("train adapters (train.lora={}), or take larger nodes or a smaller model")
    assert not any(key.startswith("train") for key in found.changes)
    alone: dict[str, Any] = {"workers": 1, "batch_size": 1}
    node = Node(memory_gib=64)
    adapters = advice(recipe(**alone, lora={}), LARGE, node)
    assert "train.lora.quantize=4bit with train.zero_stage=2" in adapters.lines[-1]
    assert advice(recipe(**alone, lora={"quantize": "4bit"}, zero_stage=2), LARGE, node) == ({}, [])


def test_an_elastic_training_has_to_fit_its_fewest_workers() -> None:
    assert advice(recipe(workers=[16, 32]), LARGE, Node()).changes == {"train.workers": 40}
    assert advice(recipe(workers=[24, 32]), LARGE, Node()).changes == {}


def test_stages_are_on_as_many_nodes_as_they_fill() -> None:
    wanted = recipe({"tensor_parallel": 4, "pipeline_parallel": 2, "max_engines": 3}, workers=[24, 30])
    generate, train, evaluate = stages_of(wanted, LARGE, Node(gpus=8))
    assert (generate.gpus, generate.nodes) == (24, 3)
    assert (evaluate.gpus, evaluate.nodes) == (24, 3)
    assert (train.gpus, train.nodes) == (30, 4)
    # Six groups of four GPUs, one on each node of six.
    assert stages_of(wanted, LARGE, Node(gpus=6))[0].nodes == 6
