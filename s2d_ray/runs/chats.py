"""Whether the model's chat template can do what a run asks of it: looked at before an engine starts."""

from collections.abc import Collection
from itertools import islice
from pathlib import Path

from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import read_json
from s2d_ray.data.records import Prompt, assistant
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.recipes.chat import TemplateArguments
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.rendering.renderer import OpenThought, RefusedChat, Renderer
from s2d_ray.rendering.thoughts import SWITCHES
from s2d_ray.runs.resolved import ResolvedRecipe
from s2d_ray.tasks.task import training_prompts

PROMPTS = 8
"""Of each part that are rendered: enough to see whether they have system messages and several turns."""


def check_chats(resolved: ResolvedRecipe, base: Model, stages: Collection[str] = ()) -> None:
    """Before these stages run, or questions are answered.

    Raises UserError, which says what to set, where System 1 cannot be trained on the prompt that it is served: where
    there is no chat template, where it refuses the task's prompts, and where it leaves a thought open before the
    answer; and where the model shall think, of which the template knows nothing, or the template is told what it does
    not take.
    """
    recipe, folder = resolved.recipe, local_copy(base.folder, weights=False)
    scripted = recipe.engine.kind == "scripted"
    if scripted and not ("train" in stages and _has_template(folder)):
        return  # A script needs none, and to load a tokenizer takes seconds.
    renderer = Renderer.load(folder, recipe.trust_remote_code, recipe.chat)
    for part in resolved.parts.values():
        if not (scripted or renderer.can_think) and _asks_to_think(part.recipe):
            raise UserError(
                f"{base.name} cannot think: its chat template has no switch for it ({', '.join(SWITCHES)}) and no "
                "marks of a thought; leave thinking out, or set chat_template or reasoning"
            )
        templates = [] if scripted else _templates(part.recipe)
        for template in templates:
            _check_switch(renderer, template, base)
        for prompt in islice(training_prompts(part.task, recipe.seed), PROMPTS):
            _check(renderer, prompt, templates, base)


def _check_switch(renderer: Renderer, template: TemplateArguments, base: Model) -> None:
    """Raises UserError where thinking is to be switched on by a name that the template does not read."""
    named = [name for name in SWITCHES if template.get(name)]
    if named and renderer.switch not in named:
        advice = f"its switch for thinking is {renderer.switch}" if renderer.switch else "it has no switch for thinking"
        raise UserError(f"template: {named[0]} is nothing that the chat template of {base.name} reads: {advice}")


def _check(renderer: Renderer, prompt: Prompt, templates: Collection[TemplateArguments], base: Model) -> None:
    try:
        renderer.pair([*prompt.messages, assistant("Yes")])
        for template in templates:
            renderer.prompt(prompt.messages, template)
    except RefusedChat as error:
        advice = "" if isinstance(error, OpenThought) else ": set chat_template: FILE.jinja, one that takes it"
        raise UserError(f"model {base.name}, prompt {prompt.prompt_id}: {error}{advice}") from error


def _asks_to_think(recipe: Recipe) -> bool:
    return any(method.options.get("thinking", method.name == "think") for method in _methods(recipe))


def _templates(recipe: Recipe) -> list[TemplateArguments]:
    """What the template is told: in every call, and in those of a shipped method; one's own has options of its own."""
    shipped = [method.options for method in _methods(recipe) if ":" not in method.name]
    return [recipe.chat.arguments, *(options.get("template") or {} for options in shipped)]


def _methods(recipe: Recipe) -> list[Named]:
    """All that ask the base model."""
    method, judge, shadow = recipe.method, recipe.evaluate.judge, recipe.serve.shadow_judge
    evaluated = Named(**{**method.model_dump(), **recipe.evaluate.method})
    judging = [judge.method] if judge is not None and judge.model == "base" else []
    return [method, evaluated, *recipe.evaluate.also, *judging, *([shadow] if shadow is not None else [])]


def _has_template(model: Path) -> bool:
    config = model / "tokenizer_config.json"
    return (model / "chat_template.jinja").is_file() or (config.is_file() and "chat_template" in read_json(config))
