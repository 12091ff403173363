"""What evaluation is made from: every arm's method, checked and remembered before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2d_ray import pipeline
from s2d_ray.artifacts import RunFolders
from s2d_ray.config import Named, Recipe
from s2d_ray.errors import UserError
from s2d_ray.plan import Plan, base_arms, make_plan


def recipe(**evaluate: Any) -> Recipe:
    content = {"name": "mine", "model": "a-model", "task": "judge", "method": {"name": "bsm", "prompts": "few_shot"}}
    return Recipe.model_validate(content | {"engine": {"kind": "scripted"}, "evaluate": evaluate})


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """The plan of a recipe with the given evaluation, over a folder that passes for a model."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (model / name).write_text("{}")

    def make(**evaluate: Any) -> Plan:
        here = recipe(**evaluate).model_copy(update={"model": str(model)})
        return make_plan(here, RunFolders(tmp_path / "results"))

    return make


def test_evaluation_adds_its_options_and_its_methods() -> None:
    assert base_arms(recipe(method={"both_orders": True}, also=["cot", {"name": "rar1", "prompts": "few_shot"}])) == {
        "system1": Named(name="direct"),
        "system2": Named(name="bsm", prompts="few_shot", both_orders=True),
        "system2_cot": Named(name="cot"),
        "system2_rar1": Named(name="rar1", prompts="few_shot"),
    }


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ({"method": {"both_order": True}}, "method bsm: unknown key both_order: did you mean both_orders?"),
        ({"also": ["rar3"]}, "no method rar3: shipped are "),
        ({"also": [{"name": "rar1", "prompts": "many_shot"}]}, "method rar1 has no prompt set many_shot"),
    ],
)
def test_a_method_of_evaluation_that_is_none_is_refused_before_anything_runs(evaluate: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        pipeline.check(recipe(**evaluate))
    assert told in str(caught.value)


def test_a_change_of_what_is_evaluated_is_a_change_of_the_evaluation_alone(plan: Any) -> None:
    plans: list[Plan] = [plan(), plan(method={"both_orders": True}), plan(also=["cot"])]
    assert len({made.evaluation.fingerprint for made in plans}) == 3
    assert len({json.dumps(made.branches[0].model.inputs, sort_keys=True) for made in plans}) == 1


def test_a_branch_that_had_nothing_to_train_on_has_no_model(plan: Any) -> None:
    main, control, _ = plan().branches
    for branch, manifest in ((main, {"skipped": "nothing was kept"}), (control, {"steps": 3})):
        branch.model.open()
        branch.model.finish(manifest)
    assert (main.trained, control.trained) == (False, True)
