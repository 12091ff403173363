"""System 2 distillation on Ray, vLLM and DeepSpeed.

    import s2d_ray

    run = s2d_ray.run("s2a-geonames", ["train.epochs=1"], root="runs")
    print(run.report.verdict.verdict, run.model_path)

Names are imported when they are used: `import s2d_ray` alone loads none of Ray, vLLM and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2d_ray.data.records import LabelledPrompt, Prompt, assistant, user
    from s2d_ray.errors import UserError
    from s2d_ray.methods.method import MalformedOutput
    from s2d_ray.recipes.load import load_recipe, shipped_recipes
    from s2d_ray.recipes.recipe import Mixture, Recipe
    from s2d_ray.runs.run import Run, run

    __version__: str

__all__ = [
    "LabelledPrompt",
    "MalformedOutput",
    "Mixture",
    "Prompt",
    "Recipe",
    "Run",
    "UserError",
    "__version__",
    "assistant",
    "load_recipe",
    "run",
    "shipped_recipes",
    "user",
]

_HOMES = {
    "LabelledPrompt": "data.records",
    "MalformedOutput": "methods.method",
    "Mixture": "recipes.recipe",
    "Prompt": "data.records",
    "Recipe": "recipes.recipe",
    "Run": "runs.run",
    "UserError": "errors",
    "assistant": "data.records",
    "load_recipe": "recipes.load",
    "run": "runs.run",
    "shipped_recipes": "recipes.load",
    "user": "data.records",
}
"""Public name → the module that has it."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("s2d-ray")
    if name not in _HOMES:
        raise AttributeError(f"module s2d_ray has no attribute {name}")
    globals()[name] = found = getattr(import_module(f"s2d_ray.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
