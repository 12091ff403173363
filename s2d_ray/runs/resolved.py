"""A recipe with all that it names found and checked: done once, and passed on from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s2d_ray.arms import further_arm
from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import Rule
from s2d_ray.imports import import_object
from s2d_ray.methods.method import Method
from s2d_ray.methods.registry import in_one_order, load_method, plain_examples
from s2d_ray.recipes.recipe import AnyRecipe, Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.runs.answer_formats import check_answer_format
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Task

SYSTEM1 = Named(name="direct")


@dataclass(frozen=True)
class ResolvedPart:
    """A recipe of one task, and what its names stand for."""

    recipe: Recipe
    task: Task
    method: Method
    rules: Sequence[Rule]
    base_arms: Mapping[str, Method]
    """The arms of the base model in evaluation: itself, also few-shot, the teacher and further System 2 methods."""


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe and its parts; the only part of a single recipe has no name."""

    recipe: AnyRecipe
    parts: Mapping[str, ResolvedPart]

    def with_settings(self, recipe: AnyRecipe) -> "ResolvedRecipe":
        """The same tasks, methods and rules under other settings: a round's own model, a number format."""
        own = recipe.recipes()
        return ResolvedRecipe(recipe, {name: replace(part, recipe=own[name]) for name, part in self.parts.items()})


def resolve(recipe: AnyRecipe) -> ResolvedRecipe:
    """Writes nothing and does not look at the model. Raises UserError for what does not exist or cannot be read."""
    return ResolvedRecipe(recipe, {name: _resolve(own) for name, own in recipe.recipes().items()})


def _resolve(recipe: Recipe) -> ResolvedPart:
    method = load_method(recipe.method)
    if recipe.evaluate.judge is not None:
        load_method(recipe.evaluate.judge.method)
    arms = {arm: load_method(section) for arm, section in base_arms(recipe).items()}
    check_answer_format(recipe, [recipe.method, *base_arms(recipe).values()])
    rules = load_rules(recipe.curate.rules)
    if recipe.engine.kind == "scripted":
        import_object(recipe.engine.script)
    task = load_task(recipe.task)
    if first := next(task.items("train", recipe.seed), None):
        for rule in rules:
            rule.check(first.prompt, recipe.method.name)
    return ResolvedPart(recipe, task, method, rules, arms)


def base_arms(recipe: Recipe) -> dict[str, Named]:
    """The arms of the base model in evaluation, and the method of each.

    Where System 2 is shown worked examples, System 1 is asked once more with the same ones; where it judges in both
    orders, and so cannot change with the order, it also judges in one.
    """
    teacher = Named(name=recipe.method.name, **recipe.method.options | recipe.evaluate.method)
    arms = {"base": SYSTEM1}
    if plain_examples(teacher):
        shown = {key: value for key, value in teacher.options.items() if key == "prompts"}
        arms["base_few_shot"] = Named(name=SYSTEM1.name, examples_of=teacher.name, **shown)
    arms["teacher"] = teacher
    if one_order := in_one_order(teacher):
        arms[further_arm(teacher.name)] = one_order
    return arms | {further_arm(method.name): method for method in recipe.evaluate.also}
