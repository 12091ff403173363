"""Rows that fail are data, until there are too many of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.manifests import EvaluationManifest
from s2d_ray.errors import UserError
from s2d_ray.methods.direct import direct
from s2d_ray.models import Model
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.stages.curate import _first_reason
from s2d_ray.stages.evaluate import evaluate
from s2d_ray.stages.failures import Failures, failures_by, failures_in, refuse
from s2d_ray.tasks.registry import load_task
from tests.stages.runs import run_here, write_corpus, write_recipe


def test_failures_are_counted_over_all_parts_and_by_arm(tmp_path: Path) -> None:
    for number, arms in enumerate([["base", "teacher", "base"], ["teacher", "base"]]):
        errors = ["" if arm == "base" else f"{number}: too long" for arm in arms]
        pq.write_table(pa.table({"arm": arms, "error": errors}), tmp_path / f"part-{number}.parquet")
    assert failures_in(tmp_path) == Failures(5, 2, "0: too long")
    assert failures_by(tmp_path, "arm") == {"base": Failures(3, 0), "teacher": Failures(2, 2, "0: too long")}


def test_more_than_the_share_is_refused_and_no_text_of_a_prompt_is_shown(tmp_path: Path) -> None:
    found = Failures(10, 2, "ValueError: a secret")
    refuse(found, 0.2, "prompts", "some.setting", tmp_path)
    refuse(Failures(), 0.0, "prompts", "some.setting", tmp_path)
    with pytest.raises(
        UserError, match=r"2 of 10 prompts failed, more than some\.setting 0\.1.*: ValueError \("
    ) as caught:
        refuse(found, 0.1, "prompts", "some.setting", tmp_path)
    assert "secret" not in str(caught.value)
    assert str(caught.value).endswith(f"{tmp_path}: mend what fails and pass --overwrite, or raise the setting")


def test_the_first_reason_of_curation_is_a_rules_own_however_often_system_2_failed(tmp_path: Path) -> None:
    candidates, failed = tmp_path / "candidates", tmp_path / "distilled" / "status=failed"
    failed.mkdir(parents=True)
    candidates.mkdir()
    errors = {"a": "EngineError", "b": "EngineError", "c": "", "d": ""}
    reasons = ["EngineError", "EngineError", "KeyError: 'x'", "ValueError"]
    pq.write_table(pa.table({"prompt_id": [*errors], "error": [*errors.values()]}), candidates / "part-0.parquet")
    pq.write_table(pa.table({"prompt_id": [*errors], "reason": reasons}), failed / "part-0.parquet")
    assert _first_reason(failed.parent, candidates) == "KeyError: 'x'"


@pytest.mark.ray
def test_too_many_failures_of_an_arm_stop_the_evaluation(tmp_path: Path, unread_model: Path, local_ray: None) -> None:
    path = write_recipe(tmp_path, unread_model, write_corpus(tmp_path / "corpus.jsonl", 60), "failing_on_seven")
    model, task = Model.local("base", unread_model), load_task(load_single_recipe(str(path)).task)
    folder = tmp_path / "evaluation"
    for most, finished in (("0.01", False), ("0.9", True)):
        recipe = load_single_recipe(str(path), [f"evaluate.max_failed_share={most}", "evaluate.general=null"])
        evaluation = Artifact(folder, {}, EvaluationManifest)
        try:
            evaluate(recipe, task, [(model, {"base": direct})], evaluation, "evaluate")
        except UserError as error:
            assert "answers of base failed, more than evaluate.max_failed_share 0.01" in str(error)
        assert evaluation.finished is finished


@pytest.mark.ray
def test_too_many_failures_of_a_rule_stop_curation_and_those_of_system_2_do_not(
    tmp_path: Path, unread_model: Path, local_ray: None
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 60)
    generate = {"samples": 2, "commit_rows": 8, "max_failed_share": 0.9}
    run_here(
        write_recipe(tmp_path, unread_model, corpus, "failing_on_seven", generate=generate),
        tmp_path,
        "generate",
        "curate",
    )
    rules = {"rules": [{"name": "tests.scripts:FailingRule"}]}
    recipe = write_recipe(tmp_path, unread_model, corpus, curate=rules)
    with pytest.raises(UserError, match=r"prompts failed, more than curate\.max_failed_share 0\.1.*ValueError"):
        run_here(recipe, tmp_path / "rule", "generate", "curate")
