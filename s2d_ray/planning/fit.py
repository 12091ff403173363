"""What each stage of a recipe takes of its nodes, and whether they have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from s2d_ray.planning import disk
from s2d_ray.planning.memory import WORKER_BYTES, engine_memory, training_memory
from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import GIB, Node
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.recipes.sections import Engine


class Need(NamedTuple):
    """What a stage takes of something that each node or GPU has."""

    name: str
    """With its unit."""
    takes: float
    has: float

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.takes <= self.has

    def __str__(self) -> str:
        return f"{_figure(self.takes)} of {_figure(self.has)}"


def _figure(number: float) -> str:
    return f"{number:,.1f}" if isinstance(number, float) and number < 100 else f"{number:,.0f}"


@dataclass(frozen=True)
class Stage:
    """One stage on the nodes that it takes."""

    name: str
    gpus: int
    nodes: int
    together: Need
    """GPUs that have to be on one node."""
    gpu: Need
    memory: Need
    disk: Need

    @property
    def lacking(self) -> list[Need]:
        """What there is not enough of, but for disk."""
        return [need for need in (self.together, self.gpu, self.memory) if not need.fits]


def stages_of(recipe: AnyRecipe, shape: Shape, node: Node) -> list[Stage]:
    """Generation, training and evaluation, with the recipe's own settings."""
    return [
        answering("generate", recipe.engine, shape, node, disk.generating_disk(shape)),
        training(recipe, shape, node),
        answering("evaluate", recipe.engine, shape, node, disk.evaluating_disk(recipe, shape)),
    ]


def answering(name: str, engine: Engine, shape: Shape, node: Node, on_disk: float) -> Stage:
    """As many engines as there may be; a group of `tensor_parallel` GPUs is on one node."""
    groups = engine.max_engines * engine.pipeline_parallel
    together = min(groups, max(1, node.gpus // engine.tensor_parallel))
    held = engine_memory(shape, engine, node.gpu_memory_gib)
    return Stage(
        name,
        gpus=engine.max_engines * engine.gpus,
        nodes=ceil(groups / together),
        together=Need("GPUs of a node", engine.tensor_parallel, node.gpus),
        gpu=Need("GiB of a GPU's memory", held.least / GIB, float(engine.gpu_memory * node.gpu_memory_gib)),
        memory=Need("GiB of a node's memory", together * WORKER_BYTES / GIB, float(node.memory_gib)),
        disk=Need("GiB of a node's disk", on_disk / GIB, float(node.disk_gib)),
    )


def training(recipe: AnyRecipe, shape: Shape, node: Node) -> Stage:
    """Counted for all workers; what each takes where an elastic training is left with the fewest."""
    train = recipe.train
    held = training_memory(shape, train)
    on_disk = disk.training_disk(recipe, shape, ceil(train.min_workers / node.gpus))
    return Stage(
        "train",
        gpus=train.max_workers,
        nodes=ceil(train.max_workers / node.gpus),
        together=Need("GPUs of a node", 1, node.gpus),
        gpu=Need("GiB of a GPU's memory", held.gpu / GIB, node.usable_gib),
        memory=Need(
            "GiB of a node's memory", min(train.max_workers, node.gpus) * held.cpu / GIB, float(node.memory_gib)
        ),
        disk=Need("GiB of a node's disk", on_disk / GIB, float(node.disk_gib)),
    )


def changed(recipe: AnyRecipe, changes: Mapping[str, Any]) -> AnyRecipe:
    """The recipe with these dotted keys of its sections set."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    copies = {name: getattr(recipe, name).model_copy(update=own) for name, own in sections.items()}
    return recipe.model_copy(update=copies)
