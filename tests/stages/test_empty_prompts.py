"""A prompt that says nothing, as a task of one's own may give one, is no question for an engine."""

import pytest

from s2d_ray.data.records import Prompt, prompt_to_row, user
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.direct import direct
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.sections import Engine
from s2d_ray.stages.generate import _answer_row
from s2d_ray.tasks.registry import load_task


@pytest.mark.parametrize(("text", "error"), [(" \n", "the prompt is empty"), ("Lyon?", "")])
async def test_an_empty_prompt_fails_and_is_not_asked(text: str, error: str) -> None:
    recipe = load_single_recipe("s2a-geonames")
    work = _answer_row(recipe, load_task(recipe.task), direct)
    [row] = await work.answer(prompt_to_row(Prompt("one", [user(text)])), ScriptedEngine(Engine(kind="scripted")))
    assert (row["error"], bool(row["samples"])) == (error, not error)
