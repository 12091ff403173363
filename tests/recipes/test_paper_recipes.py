"""The recipes of the paper's tables: all load and resolve, and the small ones have what they need at hand."""

from itertools import islice

import pytest

from s2d_ray.arms import ARMS, further_arm
from s2d_ray.curation.registry import load_rules
from s2d_ray.methods.registry import METHODS, load_method
from s2d_ray.planning.advice import advice
from s2d_ray.planning.fit import stages_of
from s2d_ray.planning.shapes import shape_of
from s2d_ray.planning.sizing import Node
from s2d_ray.recipes.load import load_recipe, load_single_recipe, shipped_recipes
from s2d_ray.recipes.strict import Named
from s2d_ray.report.published import REPORTED, UNVERIFIED, reported_for
from s2d_ray.runs.resolved import base_arms
from s2d_ray.tasks.registry import TASKS, load_task
from s2d_ray.tasks.task import training_prompts

NODE = Node(gpus=8, gpu_memory_gib=80)
FAMILIES = ("rar-last-letter", "rar-coin-flip", "s2a-trivia", "bsm-judge", "cot-gsm8k")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_both_forms_of_the_same_task_and_method(family: str) -> None:
    paper, small = load_single_recipe(f"{family}-paper"), load_single_recipe(f"{family}-small")
    assert (paper.task.name, paper.method.name) == (small.task.name, small.method.name)
    assert reported_for(paper.task.name, paper.method.name) is not None
    prompt_sets = METHODS[paper.method.name].prompt_sets
    # The published prompts where they are at hand; without worked examples in any case.
    assert (paper.train.zero_stage, paper.method.options["prompts"]) == (3, next(iter(prompt_sets)))
    assert paper.engine.max_engines > 1
    assert paper.engine.tensor_parallel > 1
    assert small.method.options["prompts"] == list(prompt_sets)[1]


@pytest.mark.parametrize("form", ["paper", "small"])
def test_evaluation_adds_what_the_tables_of_the_paper_carry(form: str) -> None:
    """Both orders for the judge, the other RaR, and several samples that can differ for maths."""
    judged = base_arms(load_single_recipe(f"bsm-judge-{form}"))["teacher"]
    assert (judged.name, judged.options["both_orders"]) == ("bsm", True)
    judging = load_single_recipe(f"bsm-judge-{form}")
    assert judged.options["prompts"] == judging.method.options["prompts"]
    assert base_arms(judging)["teacher_bsm"] == judging.method, "in one order, as in generation"
    for family in ("rar-last-letter", "rar-coin-flip"):
        recipe = load_single_recipe(f"{family}-{form}")
        arms = base_arms(recipe)
        few_shot = ["base_few_shot"] if form == "small" else []
        assert list(arms) == ["base", *few_shot, "teacher", "teacher_rar1"]
        assert arms["teacher_rar1"] == Named(name="rar1", prompts=recipe.method.options["prompts"])
    maths = load_single_recipe(f"cot-gsm8k-{form}").evaluate
    assert maths.samples == {"paper": 10, "small": 5}[form]
    assert maths.sampling.temperature > 0


def test_the_tasks_say_what_their_score_is_called() -> None:
    said = {name: load_task(load_single_recipe(f"{name}-small").task).metric for name in FAMILIES}
    assert said == {
        "rar-last-letter": "exact match",
        "rar-coin-flip": "accuracy",
        "s2a-trivia": "accuracy",
        "bsm-judge": "agreement with people",
        "cot-gsm8k": "exact match",
    }


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_resolves_its_names_and_round_trips(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe
    for own in recipe.recipes().values():
        load_task(own.task)
        for method in base_arms(own).values():
            load_method(method)
        assert load_rules(own.curate.rules)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_fits_four_nodes_of_eight_gpus_at_its_own_size(name: str) -> None:
    recipe = load_recipe(name)
    shape = shape_of(recipe, None)
    assert advice(recipe, shape, NODE) == ({}, [])
    assert max(stage.nodes for stage in stages_of(recipe, shape, NODE)) == (4 if name.endswith("-paper") else 1)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("bsm-judge-paper", "train.gradient_checkpointing=false"),
        ("bsm-judge-paper", "train.zero_stage=2"),
        ("s2a-trivia-paper", "train.workers=8"),
        ("s2a-trivia-paper", "engine.tensor_parallel=2"),
        ("rar-last-letter-paper", "train.offload=none"),
        ("cot-gsm8k-paper", "train.workers=16"),
    ],
)
def test_a_large_recipe_would_not_fit_without_what_it_sets(name: str, override: str) -> None:
    recipe = load_recipe(name, [override])
    changes, lines = advice(recipe, shape_of(recipe, None), NODE)
    assert changes
    assert len(lines) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_recipe_has_enough_prompts_at_hand(family: str) -> None:
    recipe = load_single_recipe(f"{family}-small")
    task = load_task(recipe.task)
    asked = list(islice(training_prompts(task, recipe.seed), recipe.limit or 1000))
    assert 60 <= len(asked) <= 400
    assert len(list(task.items("test", recipe.seed))) >= 60


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
