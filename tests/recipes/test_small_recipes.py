"""Every small recipe and part of a mixture from its first prompts to its curated pairs, a script in the model's place.

Its own task, method, prompt set, perturbations, samples and rules, as the stages put them together.
"""

import re
from collections.abc import Mapping
from itertools import islice

import pytest

from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import curate_prompt
from s2d_ray.data.records import Candidates, Row
from s2d_ray.inference.method_runs import Recorder, run_on_all_forms
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.load import load_recipe, shipped_recipes
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import training_prompts
from tests.method_runs import Reply, engine_that_says

PROMPTS = 4
SMALL = [load_recipe(name).recipes().values() for name in shipped_recipes() if name.endswith("-small")]
RECIPES = {recipe.name: recipe for parts in SMALL for recipe in parts}


def last_letters(turns: list[str]) -> str:
    if not turns[-1].startswith("(original)"):
        return "What are the last letters of these words?"
    quoted = re.search('"(.+?)"', turns[-1])
    assert quoted is not None
    return f'The answer is "{"".join(word[-1] for word in quoted[1].split())}".'


def flipped_coin(turns: list[str]) -> str:
    if not turns[-1].startswith("(original)"):
        return "Does the coin show heads in the end?"
    return f"The answer is {'no' if turns[-1].count('flips the coin.') % 2 else 'yes'}."


def trivia(turns: list[str]) -> str:
    """Writes one answer in many ways, of which the first is picked."""
    asked = turns[-1]
    if asked.startswith("Rewrite"):
        return asked.partition("Text: ")[2].partition(" I ")[0]
    return "The most consistent response is Response 1" if "Response 1:" in asked else f"It is answer {len(asked)}."


def judge_of_length(turns: list[str]) -> str:
    """The longer response is the better one, wherever it stands."""
    pair = re.search(r"Response A:\n(.*)\n\nResponse B:\n(.*)\n\nCriterion:", turns[-1], re.DOTALL)
    if pair is None:
        return "1. Length: it says much"
    return "A: 4\nB: 2" if len(pair[1]) > len(pair[2]) else "A: 2\nB: 4"


def judge_of_place(turns: list[str]) -> str:
    """The first response is the better one."""
    return "A: 5\nB: 1" if "Criterion:" in turns[-1] else "1. Place: it stands first"


def sums(turns: list[str]) -> str:
    return "2 and 5 are 7. The answer is 7"


def city(turns: list[str]) -> str:
    question = re.findall(r"(?:Which|What)[^?]*\?", turns[-1])[-1]
    return str(question) if turns[-1].startswith("Rewrite") else "Texas" if "state" in question else "France"


def endless(turns: list[str]) -> str:
    return "and so on, " * 1000


SENSIBLE: Mapping[str, tuple[Reply, str]] = {
    "rar-last-letter-small": (last_letters, "[a-z]{2}"),
    "rar-coin-flip-small": (flipped_coin, "yes|no"),
    "s2a-trivia-small": (trivia, r"It is answer \d+\."),
    "bsm-judge-small": (judge_of_length, "A|B"),
    "cot-gsm8k-small": (sums, "7"),
    "mixture-small-cities": (city, "France|Texas"),
    "mixture-small-letters": (last_letters, "[a-z]{2}"),
}
"""Recipe → a model that can do it, and what its targets look like."""

CUT = "every sample was cut by the token limit"
USELESS: Mapping[str, tuple[Reply, str]] = {
    "rar-last-letter-small": (endless, CUT),
    "rar-coin-flip-small": (endless, CUT),
    "s2a-trivia-small": (endless, CUT),
    "bsm-judge-small": (judge_of_place, "another answer under swap"),
    "cot-gsm8k-small": (endless, CUT),
    "mixture-small-cities": (endless, CUT),
    "mixture-small-letters": (endless, CUT),
}
"""Recipe → a model that cannot, and why its answers are rejected."""


async def curated(name: str, script: Reply) -> list[Row]:
    """The decisions on a recipe's first prompts."""
    recipe, engine = RECIPES[name], engine_that_says(script)
    task, method, rules = load_task(recipe.task), load_method(recipe.method), load_rules(recipe.curate.rules)
    sampling, samples, seed = recipe.generate.sampling, recipe.generate.samples, recipe.seed
    decisions = []
    for prompt in islice(training_prompts(task, seed), PROMPTS):
        answered = await run_on_all_forms(method, task, prompt, engine, sampling, samples, seed)
        generate = Recorder(engine, sampling, (prompt.prompt_id,))
        decisions.append(await curate_prompt(Candidates(prompt, answered), rules, task, generate))
    return decisions


def test_every_small_recipe_is_tried() -> None:
    assert list(SENSIBLE) == list(USELESS)
    assert sorted(SENSIBLE) == sorted(RECIPES)


@pytest.mark.parametrize("name", SENSIBLE)
async def test_what_a_model_answers_soundly_is_kept(name: str) -> None:
    script, target = SENSIBLE[name]
    decisions = await curated(name, script)
    assert [row["status"] for row in decisions] == ["kept"] * PROMPTS
    for row in decisions:
        assert re.fullmatch(target, row["target"])
        assert row["messages"][-1] == {"role": "assistant", "content": row["target"]}
        assert len(row["messages"]) == 2, "the plain prompt and the answer, no step between"


@pytest.mark.parametrize("name", USELESS)
async def test_what_it_does_not_is_rejected_with_the_reason(name: str) -> None:
    script, reason = USELESS[name]
    assert [(row["status"], row["reason"]) for row in await curated(name, script)] == [("rejected", reason)] * PROMPTS
