"""What lies on the nodes' disks and in the storage of results, in bytes."""

from s2d_ray.planning.memory import trained_parameters
from s2d_ray.planning.shapes import Shape
from s2d_ray.recipes.recipe import AnyRecipe, trainings_of

MODEL_BYTES = 2
"""Per parameter of a model that is stored: bf16."""
CHECKPOINT_BYTES = 12
"""Per trained parameter of a checkpoint: its float32 value and Adam's two moments."""


def distilled_models(recipe: AnyRecipe) -> int:
    """That a round trains: the distilled one, those on other targets and the two controls, each for every seed."""
    evaluate = trainings_of(recipe)
    return evaluate.seeds * (1 + len(evaluate.targets) + (2 if evaluate.controls else 0))


def checkpoint_bytes(recipe: AnyRecipe, shape: Shape) -> float:
    """Of one checkpoint."""
    return CHECKPOINT_BYTES * trained_parameters(shape, recipe.train)


def model_bytes(shape: Shape) -> float:
    """Of one model."""
    return MODEL_BYTES * shape.parameters


def generating_disk(shape: Shape) -> float:
    """Of a node whose engines have one model in its cache."""
    return model_bytes(shape)


def training_disk(recipe: AnyRecipe, shape: Shape, nodes: int) -> float:
    """Of each of so many nodes: the base model, and this node's part of a checkpoint or model on its way to storage."""
    return model_bytes(shape) + max(checkpoint_bytes(recipe, shape), model_bytes(shape)) / nodes


def evaluating_disk(recipe: AnyRecipe, shape: Shape) -> float:
    """Of a node that answers with every model, each in its cache."""
    return (1 + distilled_models(recipe)) * model_bytes(shape)


def storage(recipe: AnyRecipe, shape: Shape) -> float:
    """Of results, at most: the models of each round, and the checkpoints of one training with the next one half done.

    Prompts, answers and pairs are small beside them.
    """
    checkpoints = (recipe.train.keep_checkpoints + 1) * checkpoint_bytes(recipe, shape)
    return recipe.rounds * distilled_models(recipe) * model_bytes(shape) + checkpoints
