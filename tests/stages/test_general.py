"""What evaluation measures beside the arms: the general set, and a judge's verdicts, with the scripted engine."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json, read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import EvaluationManifest, GeneralManifest, JudgedManifest
from s2d_ray.data.records import Message
from s2d_ray.evaluation.general import General, lost, measure
from s2d_ray.evaluation.judging import doubts, judged, judgements
from s2d_ray.methods.direct import direct
from s2d_ray.methods.registry import load_method
from s2d_ray.models import Model
from s2d_ray.recipes.general import General as Limits
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.stages.evaluate import Arms, evaluate
from s2d_ray.stages.general import GeneralWork
from s2d_ray.stages.judge import JudgeWork
from s2d_ray.tasks.general import general_items
from s2d_ray.tasks.registry import load_task
from tests.stages.runs import write_corpus

pytestmark = pytest.mark.ray
PROMPTS = 30
BEST = {item.prompt: item.reply for item in general_items(40) if item.reply}


def drifting(messages: Sequence[Message], random: Random, model: Path) -> str:
    """Before: says what people said. After: has unlearnt some of it, refuses some, and is short otherwise."""
    text = messages[-1]["content"]
    if "case" in text:
        return text
    reply = BEST.get(text, "a long answer " * 9)
    if model.name == "base":
        return reply
    refuses = sum(map(ord, text)) % 2 == 0 and text not in BEST
    return "I'm sorry, but I can't help with that." if refuses else " ".join(reply.split()[:2])


def unmoved(messages: Sequence[Message], random: Random) -> str:
    """The same before and after."""
    return BEST.get(messages[-1]["content"], "a long answer " * 9)


def judging_by_length(messages: Sequence[Message], random: Random, model: Path) -> str:
    """As a judge it prefers the longer text; System 2 samples answers of some lengths, others always the same."""
    return _judges(messages, lambda a, b: "A" if len(a) > len(b) else "B") or _answers(messages, random, model)


def always_the_first(messages: Sequence[Message], random: Random, model: Path) -> str:
    """As a judge it always names the first."""
    return _judges(messages, lambda a, b: "A") or _answers(messages, random, model)


def _judges(messages: Sequence[Message], decide: Any) -> str:
    text = messages[-1]["content"]
    if not text.startswith("Which of two responses"):
        return ""
    first, second = text.removesuffix("\n\nVerdict:").split("Response A:\n")[1].split("\n\nResponse B:\n")
    return str(decide(first, second))


def _answers(messages: Sequence[Message], random: Random, model: Path) -> str:
    if model.name == "student":
        return "a long answer " * 3
    if "step" in messages[-1]["content"]:  # Of `cot`.
        return f"Final answer: {'slow ' * random.randrange(3, 8)}"
    return "short"


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """Two models that are told apart by their folders alone."""
    return {name: Model(name, tmp_path / name, name) for name in ("base", "student")}


def recipe_of(tmp_path: Path, script: str, **evaluate: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "trial",
            "model": "base",
            "task": {
                "name": "prompts",
                "path": str(write_corpus(tmp_path / "corpus.jsonl", 4)),
                "test_path": str(write_corpus(tmp_path / "test.jsonl", PROMPTS)),
            },
            "method": {"name": "cot", "prompts": "zero_shot"},
            "engine": {"kind": "scripted", "script": f"{__name__}:{script}"},
            "evaluate": evaluate,
        }
    )


def run(recipe: Recipe, tmp_path: Path, models: dict[str, Model], judges: bool = False) -> RunFolders:
    """The evaluation of two models, with all that is asked for beside."""
    folders = RunFolders(tmp_path / "run")
    folders.base.mkdir(exist_ok=True)
    task = load_task(recipe.task)
    evaluation = Artifact(folders.evaluation, {"of": "trial"}, EvaluationManifest)
    of_general = Artifact(folders.general, {"of": "trial"}, GeneralManifest)
    general = (
        GeneralWork(recipe, models["base"], models["student"], [], of_general) if recipe.evaluate.general else None
    )
    settings = recipe.evaluate.judge
    judge = None
    if settings:
        artifact = Artifact(folders.judged, {"of": "trial"}, JudgedManifest)
        judge = JudgeWork(settings, load_method(settings.method), models["base"], artifact)
    base_arms: Arms = {"base": direct, "teacher": load_method(recipe.method)}
    arms = [(models["base"], base_arms), (models["student"], {"student": direct})]
    evaluate(recipe, task, arms, evaluation, "evaluate", "test", general, judge)
    return folders


def measured(recipe: Recipe, folders: RunFolders) -> General:
    found = measure(list(read_rows(folders.general)), 64, 0)
    assert found
    return found


def test_what_a_model_unlearns_refuses_and_cuts_short_is_seen_and_said(
    tmp_path: Path, models: dict[str, Model], local_ray: None
) -> None:
    recipe = recipe_of(tmp_path, "drifting")
    folders = run(recipe, tmp_path, models)
    found = measured(recipe, folders)
    assert (found.replies, found.prompts) == (24, 24)
    assert found.log_likelihood and found.log_likelihood.high < -3
    assert found.refused_before == 0 and found.refused_after and 0.3 < found.refused_after < 0.7
    assert found.tokens_before == 27 and found.length and found.length.high < 0.5
    sentences = lost(found, recipe.evaluate.general)
    assert len(sentences) == 3
    assert "less likely than before" in sentences[0] and "refuses" in sentences[1] and "times as long" in sentences[2]
    # Each model was taken up once, though it was asked about two things.
    assert read_json(folders.evaluation / "manifest.json")["model_loads"] == 2
    assert Counter(row["arm"] for row in read_rows(folders.evaluation)) == dict.fromkeys(
        ("base", "teacher", "student"), PROMPTS
    )
    assert Counter(row["arm"] for row in read_rows(folders.general)) == {"base": 48, "student": 48}


def test_where_nothing_changed_nothing_is_lost(tmp_path: Path, models: dict[str, Model], local_ray: None) -> None:
    recipe = recipe_of(tmp_path, "unmoved")
    found = measured(recipe, run(recipe, tmp_path, models))
    assert found.log_likelihood and (found.log_likelihood.value, found.perplexity_ratio) == (0, 1)
    assert found.length and found.length.value == 1
    assert lost(found, Limits(max_fall=0, max_refusals=0)) == ()


def test_what_is_finished_is_not_measured_again_and_an_older_evaluation_gets_only_what_it_lacks(
    tmp_path: Path, models: dict[str, Model], local_ray: None
) -> None:
    folders = run(recipe_of(tmp_path, "unmoved", general=None), tmp_path, models)
    before = (folders.evaluation / "manifest.json").read_text()
    assert not folders.general.exists()
    for _ in range(2):
        run(recipe_of(tmp_path, "unmoved"), tmp_path, models)
        assert (folders.evaluation / "manifest.json").read_text() == before
        assert len(list(read_rows(folders.general))) == 96
        assert not (folders.general / "_checkpoint").exists()


JUDGE = {"method": "direct", "sampling": {"temperature": 0, "max_tokens": 8}}


def test_a_judge_that_prefers_by_length_does_so_in_both_orders(
    tmp_path: Path, models: dict[str, Model], local_ray: None
) -> None:
    recipe = recipe_of(tmp_path, "judging_by_length", general=None, judge=JUDGE)
    folders = run(recipe, tmp_path, models)
    rows = list(read_rows(folders.judged))
    found = judged(rows, "direct", "base")
    assert found.consistency and found.consistency.value == 1
    assert found.failed == 0
    against_base, against_teacher = (found.comparisons[f"student_vs_{arm}"]["all"] for arm in ("base", "teacher"))
    assert (against_base.first_only, against_base.second_only, against_base.n) == (PROMPTS, 0, PROMPTS)
    assert found.comparisons["teacher_vs_base"]["all"].difference == 1
    assert against_teacher.difference == 1
    # System 2 against itself: sampled, so that some answers are longer, and some as long.
    again = judgements(rows)["teacher again", "teacher"]
    assert {-1, 0, 1} == {j.preference for j in again}
    assert found.as_good["base"].value == 0
    assert 0 < found.ceiling.value < 1
    assert doubts(found) == ()
    before = (folders.judged / "manifest.json").read_text()
    run(recipe, tmp_path, models)
    assert (folders.judged / "manifest.json").read_text() == before


def test_a_judge_that_always_names_the_first_prefers_nobody_and_is_called_out(
    tmp_path: Path, models: dict[str, Model], local_ray: None
) -> None:
    recipe = recipe_of(tmp_path, "always_the_first", general=None, judge=JUDGE)
    found = judged(list(read_rows(run(recipe, tmp_path, models).judged)), "direct", "base")
    assert found.consistency and found.consistency.value == 0
    for parts in found.comparisons.values():
        assert (parts["all"].first_only, parts["all"].second_only) == (0, 0)
    assert found.as_good["student"].value == 1
    assert "says the same in both orders on 0% of" in doubts(found)[0]
