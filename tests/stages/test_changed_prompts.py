"""Held-out prompts that change while a run goes on are not mixed with those that it was planned with."""

from pathlib import Path

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.manifests import EvaluationManifest
from s2d_ray.errors import UserError
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.stages.evaluate import evaluate
from s2d_ray.tasks.registry import load_task


def test_prompts_that_are_no_more_those_of_the_plan_stop_the_evaluation_before_it_begins(tmp_path: Path) -> None:
    recipe = load_single_recipe("rar-coin-flip-small")
    evaluation = Artifact(tmp_path / "evaluation", {"prompts": "those of the plan"}, EvaluationManifest)
    with pytest.raises(UserError, match=r"the held-out prompts changed meanwhile .* run the same command again"):
        evaluate(recipe, load_task(recipe.task), [], evaluation, "evaluate")
    assert not evaluation.path.exists()
