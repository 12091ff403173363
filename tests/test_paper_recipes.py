"""The recipes of the paper's tables: all load and resolve, and the small ones have what they need at hand."""

import asyncio
from itertools import islice

import pytest

from s2d_ray.config import Engine, Named, Recipe, load_any, load_recipe, shipped_recipes
from s2d_ray.curation.catalogue import load_rules
from s2d_ray.curation.rule import decide
from s2d_ray.evaluation.arms import ARMS, further_arm
from s2d_ray.evaluation.reported import REPORTED, UNVERIFIED, reported_for
from s2d_ray.inference.program_run import Recorder, run_on_all_forms
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.plan import base_arms
from s2d_ray.records import Candidates
from s2d_ray.system2.catalogue import METHODS, load_method
from s2d_ray.tasks.catalogue import TASKS, load_task
from s2d_ray.tasks.corpus import held_out
from s2d_ray.tasks.task import prompts

FAMILIES = ("rar-last-letter", "rar-coin-flip", "s2a-trivia", "bsm-judge", "cot-gsm8k")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_both_forms_of_the_same_task_and_method(family: str) -> None:
    paper, small = load_recipe(f"{family}-paper"), load_recipe(f"{family}-small")
    assert (paper.task.name, paper.method.name) == (small.task.name, small.method.name)
    assert reported_for(paper.task.name, paper.method.name) is not None
    assert (paper.train.zero_stage, paper.method.options["prompts"]) == (3, "paper")
    assert paper.engine.max_engines > 1
    assert paper.engine.tensor_parallel > 1
    assert small.method.options["prompts"] == "few_shot"


@pytest.mark.parametrize("form", ["paper", "small"])
def test_evaluation_adds_what_the_tables_of_the_paper_carry(form: str) -> None:
    """Both orders for the judge, the other RaR, and several samples that can differ for maths."""
    judged = base_arms(load_recipe(f"bsm-judge-{form}"))["system2"]
    assert (judged.name, judged.options["both_orders"]) == ("bsm", True)
    assert judged.options["prompts"] == load_recipe(f"bsm-judge-{form}").method.options["prompts"]
    for family in ("rar-last-letter", "rar-coin-flip"):
        recipe = load_recipe(f"{family}-{form}")
        arms = base_arms(recipe)
        assert list(arms) == ["system1", "system2", "system2_rar1"]
        assert arms["system2_rar1"] == Named(name="rar1", prompts=recipe.method.options["prompts"])
    maths = load_recipe(f"cot-gsm8k-{form}").evaluate
    assert maths.samples == {"paper": 10, "small": 5}[form]
    assert maths.sampling.temperature > 0


def test_the_tasks_say_what_their_score_is_called() -> None:
    said = {name: load_task(load_recipe(f"{name}-small").task).metric for name in FAMILIES}
    assert said == {
        "rar-last-letter": "exact match",
        "rar-coin-flip": "accuracy",
        "s2a-trivia": "accuracy",
        "bsm-judge": "agreement with people",
        "cot-gsm8k": "exact match",
    }


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_resolves_its_names_and_round_trips(name: str) -> None:
    recipe = load_any(name)
    assert recipe.name == name
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe
    for own in recipe.recipes().values():
        load_task(own.task)
        for method in base_arms(own).values():
            load_method(method)
        assert load_rules(own.curate.rules)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_recipe_has_data_methods_and_rules_that_fit(family: str) -> None:
    _answer_first_prompts(load_recipe(f"{family}-small"), range(100, 401))


@pytest.mark.parametrize("part", load_any("mixture-small").recipes())
def test_a_part_of_the_small_mixture_has_data_methods_and_rules_that_fit(part: str) -> None:
    _answer_first_prompts(load_any("mixture-small").recipes()[part], range(40, 201))


def _answer_first_prompts(recipe: Recipe, prompts_wanted: range) -> None:
    """The first prompts go through generation and curation, whatever an echo makes of them."""
    task, method, rules = load_task(recipe.task), load_method(recipe.method), load_rules(recipe.curate.rules)
    engine = ScriptedEngine(Engine(kind="scripted"))
    asked = list(islice(prompts(task, recipe.seed), recipe.limit or 1000))
    assert len(asked) in prompts_wanted
    assert len(held_out(recipe)) >= 40

    async def status(index: int) -> str:
        prompt, sampling = asked[index], recipe.generate.sampling
        samples = await run_on_all_forms(method, task, prompt, engine, sampling, 2, recipe.seed)
        generate = Recorder(engine, sampling, (prompt.prompt_id,))
        return str((await decide(Candidates(prompt, samples), rules, task, generate))["status"])

    assert {asyncio.run(status(index)) for index in range(3)} <= {"kept", "rejected"}


def test_reported_figures_are_of_known_arms_and_marked() -> None:
    for (task, method), paper in REPORTED.items():
        assert task in TASKS
        assert method in METHODS
        for figure in paper.figures:
            assert figure.arm in {*ARMS, *map(further_arm, METHODS)}
    published = {f.percent for p in REPORTED.values() for f in p.figures if f.mark != UNVERIFIED}
    assert published == {98.0, 52.77, 7.13}
    assert [key for key, paper in REPORTED.items() if not paper.distils] == [("gsm8k", "cot")]
    assert reported_for("geonames", "s2a") is None
