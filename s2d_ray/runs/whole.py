"""A recipe in full: every default filled in, those of its tasks too."""

from typing import Any

import yaml

from s2d_ray.recipes.recipe import AnyRecipe, Mixture
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task


def whole_yaml(recipe: AnyRecipe) -> str:
    """As YAML that can be run again; what the recipe is about comes first."""
    return yaml.safe_dump(_whole(recipe), sort_keys=False, allow_unicode=True)


def _whole(recipe: AnyRecipe) -> dict[str, Any]:
    whole = recipe.model_dump(mode="json")
    head = {key: whole.pop(key) for key in ("name", "description")}
    if isinstance(recipe, Mixture):
        parts = whole.pop("parts")
        return (
            head | {"parts": {name: parts[name] | {"task": _task(recipe.parts[name].task)} for name in parts}} | whole
        )
    del whole["task"]
    return head | {"task": _task(recipe.task), "method": whole.pop("method")} | whole


def _task(section: Named) -> dict[str, Any]:
    return {"name": section.name, **load_task(section).model_dump(mode="json")}
