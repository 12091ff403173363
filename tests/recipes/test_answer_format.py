"""Answers of a given form: as a recipe asks for them, and which methods can be held to one."""

from pathlib import Path
from typing import Any

import pytest

from s2d_ray.errors import UserError
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.evaluate import Evaluate
from s2d_ray.recipes.recipe import Mixture, Recipe
from s2d_ray.recipes.strict import Named, parse
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.registry import load_task

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """A recipe over a file of prompts."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "question {n}"}}\n' for n in range(50)))
    return {
        "name": "trial",
        "model": "none",
        "task": {"name": "prompts", "path": str(prompts)},
        "method": {"name": "s2a"},
    }


def recipe(raw: dict[str, Any], **more: object) -> Recipe:
    return parse(Recipe, raw | more, where="recipe")


@pytest.mark.parametrize(
    ("form", "fitting", "other"),
    [
        ({"json_schema": SCHEMA}, '{"city": "Lyon"}', '{"city": 3}'),
        ({"json_schema": SCHEMA}, '{"city": "Lyon"}', "Lyon"),
        ({"json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}}, "null", "[" * 100_000),
        ({"choice": ["yes", "no"]}, "yes", "yes."),
        ({"regex": "[a-z]+"}, "yes", "yes."),
    ],
)
def test_a_text_has_the_form_or_not(form: dict[str, Any], fitting: str, other: str) -> None:
    asked = AnswerFormat(**form)
    assert asked.fits(fitting)
    assert not asked.fits(other)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({}, "exactly one of json_schema, choice and regex"),
        ({"choice": ["a"], "regex": "a"}, "exactly one of"),
        ({"json_schema": {"type": "strin"}}, "no JSON schema, at type"),
        ({"json_schema": {"$schema": 3}}, "$schema is a text"),
        ({"json_schema": {"description": "?" * 32 * 1024}}, "longer than 32768 characters"),
        ({"json_schema": {"properties": {"a": {"pattern": "("}}}}, "no JSON schema, at properties/a/pattern"),
        ({"json_schema": {"items": {"$ref": "http://x.example/y"}}}, "is not in the schema itself"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "vLLM can hold answers to: Cannot find field nowhere"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": ["a", ""]}, "texts that are not empty and that differ"),
        ({"choice": ["a", "a"]}, "texts that are not empty and that differ"),
        ({"regex": ""}, "at least 1 character"),
        ({"regex": "("}, "no regular expression: missing )"),
        ({"regex": "(?<=a)b"}, "vLLM can hold answers to: Regex parsing error"),
    ],
)
def test_a_form_that_is_none_is_one_line_before_anything_starts(
    raw: dict[str, Any], form: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError) as refused:
        resolve(recipe(raw, answer_format=form))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_both_stages_that_answer_are_told_of_the_form_and_keep_their_own_sampling(raw: dict[str, Any]) -> None:
    plain, held = recipe(raw), recipe(raw, answer_format={"json_schema": SCHEMA})
    form = AnswerFormat(json_schema=SCHEMA)
    for section in ("generate", "evaluate"):
        before, after = getattr(plain, section).sampling, getattr(held, section).sampling
        assert after == before.model_copy(update={"answer_format": form})
        assert "answer_format" not in before.model_dump(mode="json")
    assert parse(Recipe, held.model_dump(mode="json"), where="shown") == held
    python = Recipe(**{**raw, "task": Named(**raw["task"])}, answer_format=form, evaluate=Evaluate(limit=3))
    assert python.evaluate.sampling.answer_format == form


def test_a_part_of_a_mixture_has_a_form_of_its_own(raw: dict[str, Any]) -> None:
    part = {"task": raw["task"], "method": raw["method"]}
    parts = {"one": {**part, "answer_format": {"choice": ["yes", "no"]}}, "other": part}
    mixture = parse(Mixture, {"name": "both", "model": "none", "parts": parts}, where="recipe")
    forms = {name: own.generate.sampling.answer_format for name, own in mixture.recipes().items()}
    assert forms == {"one": AnswerFormat(choice=("yes", "no")), "other": None}


def test_the_form_is_said_of_the_recipe_alone(raw: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="belongs to the recipe"):
        recipe(raw, generate={"sampling": {"answer_format": {"choice": ["yes"]}}})


def test_votes_over_json_are_by_field_unless_the_recipe_says_otherwise(raw: dict[str, Any]) -> None:
    form = {"json_schema": SCHEMA}
    one, other = '{"city": "Lyon", "n": 1}', '{"n": 1.0, "city": "lyon"}'
    by_field = load_task(recipe(raw, answer_format=form).task)
    assert by_field.key(one) == by_field.key(other)
    exact = load_task(recipe(raw | {"task": raw["task"] | {"normalisation": "exact"}}, answer_format=form).task)
    assert exact.key(one) != exact.key(other)
    assert recipe(raw, answer_format={"choice": ["a"]}).task == recipe(raw).task


@pytest.mark.parametrize("place", ["method", "also"])
@pytest.mark.parametrize("method", ["cot", "rar1", "bsm"])
def test_a_method_that_reasons_in_its_answer_is_refused_in_one_line(
    raw: dict[str, Any], method: str, place: str
) -> None:
    wanted = {"method": {"name": method}} if place == "method" else {"evaluate": {"also": [{"name": method}]}}
    with pytest.raises(UserError, match=f"answer_format cannot be held by the method {method}: the call that"):
        resolve(recipe(raw, answer_format={"choice": ["yes"]}, **wanted))
    resolve(recipe(raw, **wanted))


@pytest.mark.parametrize("method", ["direct", "s2a", "rar2"])
def test_a_method_that_answers_in_a_call_of_its_own_is_held(raw: dict[str, Any], method: str) -> None:
    resolve(recipe(raw, answer_format={"choice": ["yes"]}, method={"name": method}))
