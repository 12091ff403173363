"""What does not fit, and the smallest change of settings by which it would."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import log2
from typing import Any, NamedTuple

from pydantic import ValidationError

from s2d_ray.planning.fit import Stage, answering, changed, stages_of, training
from s2d_ray.planning.memory import micro_batch_tokens
from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import Node
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.recipes.sections import Engine, Train

MOST_NODES = 64
"""Of a training, and of an engine, that are thought of."""
OFFLOADS = {"none": 0.0, "optimizer": 8.0, "parameters": 24.0}
"""What is kept in the CPU's memory → how large a change that is."""
Changes = Mapping[str, Any]
"""Dotted key of a recipe → its new value."""


class Advice(NamedTuple):
    """How to make a recipe fit."""

    changes: Changes
    """By which all fits that changes of the recipe can make fit; empty where it fits as it is."""
    lines: Sequence[str]
    """What does not fit and what to do about it, for a person."""


def advice(recipe: AnyRecipe, shape: Shape, node: Node) -> Advice:
    """For every stage that does not fit these nodes."""
    changes: dict[str, Any] = {}
    lines: list[str] = []
    for stage in stages_of(recipe, shape, node):
        if stage.lacking and stage.name != "evaluate":  # Its engines are those of `generate`.
            found = _smallest(stage, recipe, shape, node)
            changes |= found or {}
            lines.append(_line(stage, found, recipe.train))
        if not stage.disk.fits:
            lines.append(_disk_line(stage, recipe, shape, node))
    return Advice(changes, lines)


def _smallest(stage: Stage, recipe: AnyRecipe, shape: Shape, node: Node) -> Changes | None:
    """The first change by which the stage has memory enough."""
    trains = stage.name == "train"
    candidates = training_changes(recipe.train, node) if trains else engine_changes(recipe.engine, shape, node)
    for candidate in candidates:
        other = changed(recipe, candidate)
        found = training(other, shape, node) if trains else answering(stage.name, other.engine, shape, node, 0.0)
        if not found.lacking:
            return candidate
    return None


def training_changes(train: Train, node: Node) -> Iterator[Changes]:
    """Changes of where and how it is trained that leave its results alone, the smallest first.

    What is small is a matter of judgement: gradient checkpointing costs a third more computing, half a micro-batch or
    a higher stage network; more workers have to be there; offloading costs most.
    """
    tokens = micro_batch_tokens(train)
    most = min(train.batch_size, MOST_NODES * node.gpus)
    costs: dict[str, dict[Any, float]] = {
        "train.gradient_checkpointing": {True: 1.0},
        "train.micro_batch_tokens": {size: log2(tokens / size) for size in _halves(tokens) if size >= train.max_length},
        "train.zero_stage": {stage: 1.5 * (stage - train.zero_stage) for stage in range(train.zero_stage + 1, 4)},
        "train.workers": {
            n: 2 + 2 * log2(n / train.max_workers) for n in _workers(node) if train.max_workers < n <= most
        },
        "train.offload": {place: OFFLOADS[place] for place in OFFLOADS if OFFLOADS[place] > OFFLOADS[train.offload]},
    }
    if train.gradient_checkpointing:
        del costs["train.gradient_checkpointing"]
    options = [[(None, None, 0.0), *((key, value, cost) for value, cost in of.items())] for key, of in costs.items()]
    for picked in sorted(product(*options), key=lambda picks: sum(cost for _, _, cost in picks)):
        changes = {key: value for key, value, _ in picked if key is not None}
        if changes and _allowed(train, changes):
            yield changes


def _allowed(train: Train, changes: Changes) -> bool:
    """Whether the recipe's own checks take them."""
    try:
        Train.model_validate(train.model_dump() | {key.removeprefix("train."): changes[key] for key in changes})
    except ValidationError:
        return False
    return True


def _halves(tokens: int) -> Iterator[int]:
    """Powers of two below."""
    return (1 << power for power in range((tokens - 1).bit_length() - 1, -1, -1))


def _workers(node: Node) -> list[int]:
    """Those that share a node, then whole nodes."""
    inside = [1 << power for power in range(node.gpus.bit_length()) if 1 << power < node.gpus]
    return [*inside, *(nodes * node.gpus for nodes in range(1, MOST_NODES + 1))]


def engine_changes(engine: Engine, shape: Shape, node: Node) -> Iterator[Changes]:
    """More GPUs for an engine, the fewest first: over heads within a node, then over layers across nodes."""
    widths = [1 << power for power in range(node.gpus.bit_length()) if shape.heads % (1 << power) == 0]
    deeper = [(widths[-1], depth) for depth in range(2, min(MOST_NODES, shape.layers) + 1)]
    for width, depth in [*((width, 1) for width in widths), *deeper]:
        changes = {"engine.tensor_parallel": width, "engine.pipeline_parallel": depth}
        yield {key: value for key, value in changes.items() if value != getattr(engine, key.split(".")[1])}


def said(changes: Changes) -> str:
    """As they are typed."""
    return " ".join(f"{key}={str(value).lower()}" for key, value in changes.items())


def _line(stage: Stage, found: Changes | None, train: Train) -> str:
    lacking = ", ".join(f"{need} {need.name}" for need in stage.lacking)
    change = (
        f"the smallest change: {said(found)}" if found else f"no change of where it runs does: {_other(stage, train)}"
    )
    return f"{stage.name} does not fit: {lacking}; {change}"


def _other(stage: Stage, train: Train) -> str:
    """What changes the results too, or the nodes."""
    if stage.name == "train" and train.lora is None:
        return "train adapters (train.lora={}), or take larger nodes or a smaller model"
    if stage.name == "train" and train.lora is not None and train.lora.quantize is None:
        return "take train.lora.quantize=4bit with train.zero_stage=2, larger nodes or a smaller model"
    return "take larger nodes or a smaller model"


def _disk_line(stage: Stage, recipe: AnyRecipe, shape: Shape, node: Node) -> str:
    fewer = ["evaluate.controls=false", *(["evaluate.targets=[]"] if recipe.evaluate.targets else [])]
    evaluate = recipe.evaluate.model_copy(update={"controls": False, "targets": ()})
    without = stages_of(recipe.model_copy(update={"evaluate": evaluate}), shape, node)
    alone = next(other for other in without if other.name == stage.name)
    also = f", or {' '.join(fewer)}" if alone.disk.fits else ""
    return (
        f"{stage.name} does not fit: {stage.disk} {stage.disk.name}; nodes with a disk of "
        f"{stage.disk.takes:,.0f} GiB{also}"
    )
