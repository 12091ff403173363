"""The number format of a run: chosen when it begins, and kept wherever it goes on.

It is an input of what the engine answers, so that the candidates' folder remembers it.
"""

from collections.abc import Callable
from typing import TypeVar

from s2d_ray.data.artifacts import read_inputs
from s2d_ray.data.folders import RunFolders
from s2d_ray.devices import Choice, DType, choose_dtype
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe

R = TypeVar("R", Recipe, Mixture, AnyRecipe)
AUTO = "auto"


def with_dtype(recipe: R, folders: RunFolders | None = None, choose: Callable[[], Choice] = choose_dtype) -> R:
    """The recipe with the number format that its run in `folders` has, or else the one that `choose` gives."""
    engine, train = recipe.engine, recipe.train
    if engine.dtype == AUTO:
        found = recorded_dtype(recipe, folders) if folders else None
        engine = engine.model_copy(update={"dtype": found or choose().dtype})
    if train.dtype == AUTO:
        train = train.model_copy(update={"dtype": engine.dtype})
    return recipe.model_copy(update={"engine": engine, "train": train})


def recorded_dtype(recipe: AnyRecipe, folders: RunFolders) -> DType | None:
    """What a run computes with since it began; None before."""
    for part in recipe.recipes():
        dtype: DType | None = read_inputs(folders.part(part).candidates).get("dtype")
        if dtype not in (None, AUTO):
            return dtype
    return None
