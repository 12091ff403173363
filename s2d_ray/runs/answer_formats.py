"""Whether a recipe's answers can be held to their form: by its methods, and by the engine."""

import json
from collections.abc import Iterable, Mapping

from s2d_ray.errors import UserError
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named

MIXED: Mapping[str, str] = {
    "cot": "thinks step by step",
    "rar1": "rephrases the question",
    "bsm": "weighs the responses",
}
"""Method → what its last call does before it gives the answer, which no form leaves room for."""


def check_answer_format(recipe: Recipe, methods: Iterable[Named]) -> None:
    """Raises UserError where a method's answer is not all that a call says, or the engine cannot hold to the form."""
    if recipe.answer_format is None:
        return
    for method in methods:
        refuse_mixed(method, "answer_format")
    if recipe.engine.kind == "vllm":
        _compile(recipe.answer_format)


def refuse_mixed(method: Named, asked: str) -> None:
    """Raises UserError for a method whose answers cannot have a form. `asked` is what asks for it."""
    if method.name in MIXED:
        raise UserError(
            f"{asked} cannot be held by the method {method.name}: the call that gives its answer also "
            f"{MIXED[method.name]}; direct, s2a, rar2 and think answer in a call of their own"
        )


def _compile(form: AnswerFormat) -> None:
    """As vLLM does for each request. Raises UserError."""
    # Imported where it is used: it takes seconds.
    from xgrammar import Grammar

    try:
        if form.json_schema is not None:
            Grammar.from_json_schema(json.dumps(form.json_schema))
        elif form.regex is not None:
            Grammar.from_regex(form.regex)
    except RuntimeError as error:
        # Before that is the place in its own source.
        reason = str(error).strip().splitlines()[0].rpartition(".cc:")[2].partition(" ")[2]
        raise UserError(f"answer_format is not one that vLLM can hold answers to: {reason}") from error
