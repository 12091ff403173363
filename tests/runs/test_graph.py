"""Plans of recipes, mixtures and rounds: where everything lies, how far a change reaches, and what is evaluated."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import write_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CandidatesManifest, ModelManifest
from s2d_ray.devices import Choice
from s2d_ray.errors import UserError
from s2d_ray.evaluation.statistics import Paired, paired
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.report.report import write_report
from s2d_ray.report.schema import Report
from s2d_ray.runs import pipeline
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.graph import Plan, make_plans
from s2d_ray.runs.names import STAGES
from s2d_ray.runs.resolved import base_arms, resolve
from s2d_ray.tasks.corpus import held_out
from tests.manifests import MODEL
from tests.manifests import finish as finish_artifact
from tests.report.toy_run import ARMS as REPORTED_ARMS
from tests.report.toy_run import RECIPE as REPORTED
from tests.report.toy_run import Toy, write_run

GAIN = paired([True] * 20, [False] * 20)
NO_GAIN = paired([True] * 20, [True] * 19 + [False])


@pytest.fixture
def shared(unread_model: Path) -> dict[str, Any]:
    """Settings of a run."""
    # A format that is named need not be chosen, which takes a process with torch.
    engine = {"kind": "scripted", "dtype": "float32"}
    return {
        "name": "trial",
        "model": str(unread_model),
        "engine": engine,
        "evaluate": {"controls": False, "general": None},
    }


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Any]:
    """A task section per part; the two ask some of the same questions."""
    found = {}
    for name, numbers in {"one": range(0, 40), "two": range(20, 60)}.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in numbers))
        found[name] = {"name": "prompts", "path": str(path), "valid_share": 0.2}
    return found


@pytest.fixture
def recipe(shared: dict[str, Any], tasks: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(shared | {"task": tasks["one"], "method": "s2a"})


def mixture(shared: Mapping[str, Any], tasks: Mapping[str, Any], **changes: Mapping[str, Any]) -> Mixture:
    """A mixture of all tasks; `changes` are the own settings of parts."""
    parts = {name: {"task": task, "method": "s2a", **changes.get(name, {})} for name, task in tasks.items()}
    return Mixture.model_validate({**shared, "parts": parts})


def plans_of(recipe: AnyRecipe, root: Path) -> list[Plan]:
    folders = RunFolders(root / "run")
    pipeline.ingest(resolve(recipe), folders)
    return make_plans(resolve(recipe), folders)


def artifacts(plans: Sequence[Plan]) -> dict[str, Artifact[Any]]:
    """Folder in the results folder → what is made there, of every stage and round, and the corpora."""
    made = [a for plan in plans for stage in STAGES for a in plan.artifacts(stage)]
    made += [part.corpus for part in plans[0].parts]
    return {str(artifact.path.relative_to(plans[0].folders.base)): artifact for artifact in made}


def changed(before: AnyRecipe, after: AnyRecipe, root: Path) -> set[str]:
    """The folders whose inputs differ between two recipes."""
    old, new = artifacts(plans_of(before, root / "before")), artifacts(plans_of(after, root / "after"))
    assert old.keys() == new.keys()
    return {folder for folder in old if old[folder].fingerprint != new[folder].fingerprint}


def test_a_single_recipe_has_one_round_one_part_and_todays_folders(recipe: Recipe, tmp_path: Path) -> None:
    with_controls = Recipe.model_validate(recipe.model_dump() | {"evaluate": {"controls": True, "general": None}})
    [plan] = plans_of(with_controls, tmp_path)
    assert ([part.name for part in plan.parts], plan.has_overview) == ([""], False)
    assert artifacts([plan]).keys() == {
        *("prompts", "candidates", "distilled", "model", "evaluation"),
        *(f"controls/student_of_base/{stage}" for stage in ("candidates", "distilled", "model")),
        *(f"controls/student_uncurated/{stage}" for stage in ("distilled", "model")),
    }
    main, *_ = plan.trainings
    assert main.model.inputs["distilled"] == plan.parts[0].branches[0].distilled.fingerprint
    assert "max_examples" not in main.model.inputs


def test_seeds_are_trainings_of_their_own_on_the_same_pairs(recipe: Recipe, tmp_path: Path) -> None:
    evaluate = {"controls": True}
    [once] = plans_of(Recipe.model_validate(recipe.model_dump() | {"evaluate": evaluate}), tmp_path / "once")
    seeded = Recipe.model_validate(recipe.model_dump() | {"evaluate": evaluate | {"seeds": 3}, "seed": 4})
    [plan] = plans_of(seeded, tmp_path)
    assert [(training.arm, training.recipe.seed) for training in plan.trainings] == [
        *(("student", 4), ("student_of_base", 4), ("student_uncurated", 4)),
        *(("student@2", 5), ("student_of_base@2", 5), ("student_uncurated@2", 5)),
        *(("student@3", 6), ("student_of_base@3", 6), ("student_uncurated@3", 6)),
    ]
    folders = [str(training.model.path.relative_to(plan.folders.base)) for training in plan.trainings]
    assert folders[3:5] == ["seeds/2/model", "controls/student_of_base/seeds/2/model"]
    assert len({training.model.fingerprint for training in plan.trainings}) == len(set(folders)) == 9
    for number, training in enumerate(plan.trainings):
        assert training.model.inputs["distilled"] == plan.trainings[number % 3].model.inputs["distilled"]
    assert artifacts([plan])["evaluation"].inputs["models"].keys() == {training.arm for training in plan.trainings}
    # More trainings change nothing of those that there are.
    again = Recipe.model_validate(seeded.model_dump() | {"evaluate": evaluate})
    assert changed(again, again.model_copy(update={"limit": None}), tmp_path / "again") == set()
    assert len(once.trainings) == 3


def targeted(recipe: AnyRecipe, *targets: str, **changes: Any) -> AnyRecipe:
    evaluate = {"controls": False, "general": None, "targets": targets}
    return type(recipe).model_validate(recipe.model_dump() | {"evaluate": evaluate} | changes)


def test_students_on_other_targets_share_the_answers_and_have_pairs_and_a_model_of_their_own(
    recipe: Recipe, tmp_path: Path
) -> None:
    [plan] = plans_of(targeted(recipe, "shortest", "shortened", "internalised"), tmp_path)
    arms = ["student_shortest", "student_shortened", "student_internalised"]
    assert artifacts([plan]).keys() == {
        *("prompts", "candidates", "distilled", "model", "evaluation"),
        *(f"controls/{arm}/{stage}" for arm in arms for stage in ("distilled", "model")),
    }
    student, *others = plan.trainings
    assert [training.arm for training in others] == arms
    assert artifacts([plan])["evaluation"].inputs["models"].keys() == {"student", *arms}
    rules = [[rule["name"] for rule in b.distilled.inputs["rules"]] for b in plan.parts[0].branches]
    assert rules == [["majority"], *([["majority", name] for name in ("shortest", "shortened", "shortest")])]
    assert [branch.generates for branch in plan.parts[0].branches] == [True, False, False, False]
    assert [training.recipe.train.internalise is not None for training in plan.trainings] == [False, False, False, True]
    assert len({training.model.fingerprint for training in plan.trainings}) == 4
    finish_artifact(student.model)
    assert [pipeline.steps_of(plan, training) for training in others] == [MODEL.steps] * 3


def test_other_targets_change_nothing_of_the_student_and_its_own_is_an_input(recipe: Recipe, tmp_path: Path) -> None:
    [before], [after] = (
        plans_of(found, tmp_path / str(n)) for n, found in enumerate((recipe, targeted(recipe, "shortest")))
    )
    old, new = artifacts([before]), artifacts([after])
    assert {folder for folder in old if old[folder].fingerprint != new[folder].fingerprint} == {"evaluation"}
    shortest = targeted(recipe, curate={"target": "shortest"})
    assert changed(recipe, shortest, tmp_path / "own") == {"distilled", "model", "evaluation"}
    internalised = targeted(recipe, curate={"target": "shortest"}, train={"internalise": {}})
    assert changed(shortest, internalised, tmp_path / "less") == {"model", "evaluation"}
    slower = targeted(recipe, curate={"target": "shortest"}, train={"internalise": {"share": 0.9}})
    assert changed(internalised, slower, tmp_path / "slower") == {"model", "evaluation"}


def test_a_target_beside_an_internalised_student_keeps_its_trace(recipe: Recipe, tmp_path: Path) -> None:
    own: dict[str, Any] = {"curate": {"target": "shortened"}, "train": {"internalise": {"share": 0.9}}}
    [plan] = plans_of(targeted(recipe, "answer", "shortest", **own), tmp_path)
    assert [training.recipe.train.internalise is not None for training in plan.trainings] == [True, False, False]
    rules = [[rule["name"] for rule in b.distilled.inputs["rules"]] for b in plan.parts[0].branches]
    assert rules == [["majority", "shortened"], ["majority"], ["majority", "shortest"]]


def test_controls_are_trained_on_the_target_of_the_student(recipe: Recipe, tmp_path: Path) -> None:
    [plan] = plans_of(with_controls(recipe, curate={"target": "shortest"}), tmp_path)
    rules = [[rule["name"] for rule in b.distilled.inputs["rules"]] for b in plan.parts[0].branches]
    assert rules == [["majority", "shortest"], ["majority", "shortest"], ["unfiltered", "shortest"]]


def test_other_targets_are_trained_in_every_round_on_the_pairs_of_all_parts(
    shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path
) -> None:
    both = mixture(shared | {"rounds": 2, "evaluate": {"controls": False, "targets": ["shortest"]}}, tasks)
    for plan in plans_of(both, tmp_path):
        _, shortest = plan.trainings
        assert shortest.arm == "student_shortest"
        assert shortest.model.path == plan.folders.control("student_shortest").model
        assert list(shortest.branches) == ["one", "two"]
        assert {part.evaluation.inputs["models"]["student_shortest"] for part in plan.parts} == {
            shortest.model.fingerprint
        }


def test_the_parts_of_a_mixture_meet_in_the_training(
    shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path
) -> None:
    [plan] = plans_of(mixture(shared | {"evaluate": {"controls": True, "general": None}}, tasks), tmp_path)
    controls = ("student_of_base", "student_uncurated")
    of_part = ["prompts", "candidates", "distilled", "evaluation", "controls/student_of_base/candidates"]
    of_part += [f"controls/{control}/distilled" for control in controls]
    expected = {f"parts/{part}/{folder}" for part in tasks for folder in of_part}
    assert artifacts([plan]).keys() == expected | {"model"} | {f"controls/{control}/model" for control in controls}
    for training in plan.trainings:
        of_arm = {part.name: b.distilled for part in plan.parts for b in part.branches if b.arm == training.arm}
        assert {name: branch.distilled for name, branch in training.branches.items()} == of_arm
        assert training.model.inputs["distilled"] == {name: made.fingerprint for name, made in of_arm.items()}
    assert plan.has_overview


def test_a_change_of_one_part_spares_the_other_parts_answers(
    shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path
) -> None:
    before = mixture(shared, tasks)
    trained = {"model", "parts/one/evaluation", "parts/two/evaluation"}

    def reach(**own: Any) -> set[str]:
        return changed(before, mixture(shared, tasks, two=own), tmp_path / "-".join(own))

    assert reach(generate={"samples": 9}) == {"parts/two/candidates", "parts/two/distilled"} | trained
    assert reach(curate={"rules": ["unfiltered"]}) == {"parts/two/distilled"} | trained
    assert reach(max_examples=3) == trained
    assert reach(evaluate={"sampling": {"max_tokens": 9}}) == {"parts/two/evaluation"}
    assert reach(limit=3) == {f"parts/two/{stage}" for stage in ("prompts", "candidates", "distilled")} | trained


def test_the_order_of_parts_in_the_file_changes_nothing(
    shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path
) -> None:
    forth, back = mixture(shared, tasks), mixture(shared, dict(reversed(tasks.items())))
    assert changed(forth, back, tmp_path) == set()
    for number, recipe in enumerate((forth, back)):
        [plan] = plans_of(recipe, tmp_path / str(number))
        assert [list(training.branches) for training in plan.trainings] == [["one", "two"]]


def with_train(recipe: Recipe, **train: Any) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | {"train": train})


def test_what_training_takes_or_where_it_runs_does_not_reach_the_model(recipe: Recipe, tmp_path: Path) -> None:
    lean = {"micro_batch_tokens": 4096, "gradient_checkpointing": True, "attention": "eager", "zero_stage": 3}
    assert changed(recipe, with_train(recipe, **lean), tmp_path) == set()


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": "adamw_8bit"},
        {"lora": {"targets": ["q_proj"]}},
        {"lora": {"quantize": "4bit"}},
        {"extra": {"zero_optimization": {"zero_quantized_gradients": True}}},
    ],
)
def test_how_it_is_trained_reaches_the_model(recipe: Recipe, train: dict[str, Any], tmp_path: Path) -> None:
    assert changed(recipe, with_train(recipe, **train), tmp_path) == {"model", "evaluation"}


@pytest.mark.parametrize("lora", [{}, None])
def test_a_model_of_before_a_setting_came_is_still_this_recipes(recipe: Recipe, lora: Any, tmp_path: Path) -> None:
    """By what was an input when the first models were trained."""
    [plan] = plans_of(with_train(recipe, lora=lora), tmp_path)
    settings = {"lora", "learning_rate", "schedule", "warmup_share", "weight_decay", "epochs", "steps"}
    settings |= {"max_examples", "batch_size", "max_length", "gradient_clipping", "dtype"}
    train = plan.trainings[0].model.inputs["train"]
    assert train.keys() == settings
    assert train["lora"] == (None if lora is None else {"rank": 16, "alpha": 32, "dropout": 0.0})


def test_a_model_that_was_trained_on_another_loss_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    [plan] = plans_of(recipe, tmp_path)
    model = plan.trainings[0].model
    before = {name: value for name, value in model.inputs.items() if name != "loss"}
    finish_artifact(replace(model, inputs=before))
    with pytest.raises(UserError, match=r'loss: null there, "mean over examples" now.*--overwrite'):
        model.open()


def with_controls(recipe: AnyRecipe, **changes: Any) -> AnyRecipe:
    return type(recipe).model_validate(recipe.model_dump() | {"evaluate": {"controls": True}} | changes)


def test_a_control_takes_as_many_steps_as_the_distilled_model_took(recipe: Recipe, tmp_path: Path) -> None:
    [plan] = plans_of(with_controls(recipe), tmp_path)
    student, *controls = plan.trainings
    assert pipeline.steps_of(plan, student) is None, "as many as its pairs make"
    finish_artifact(student.model)
    assert [pipeline.steps_of(plan, control) for control in controls] == [MODEL.steps] * 2
    [plan] = plans_of(with_controls(recipe, train={"steps": 5}), tmp_path / "exactly")
    assert [pipeline.steps_of(plan, training) for training in plan.trainings] == [5, 5, 5]


def test_without_a_distilled_model_the_controls_pairs_decide_their_steps(recipe: Recipe, tmp_path: Path) -> None:
    [plan] = plans_of(with_controls(recipe), tmp_path)
    student, *controls = plan.trainings
    student.model.open()
    student.model.finish(ModelManifest(skipped="nothing", seconds=0.0))
    assert [pipeline.steps_of(plan, control) for control in controls] == [None, None]


def test_what_the_distilled_model_is_trained_on_reaches_the_controls_by_its_steps(
    recipe: Recipe, tmp_path: Path
) -> None:
    rules = {"rules": [{"name": "majority", "threshold": 0.9}]}
    uncurated = "controls/student_uncurated/model"
    before, after = with_controls(recipe), with_controls(recipe, curate=rules)
    assert uncurated in changed(before, after, tmp_path / "passes")
    before, after = (with_controls(found, train={"steps": 5}) for found in (before, after))
    assert uncurated not in changed(before, after, tmp_path / "steps")


def test_each_round_is_based_on_the_model_of_the_one_before(recipe: Recipe, tmp_path: Path) -> None:
    first, second, third = plans = plans_of(recipe.model_copy(update={"rounds": 3}), tmp_path)
    assert [plan.round for plan in plans] == [1, 2, 3]
    stages = ("candidates", "distilled", "model", "evaluation", "validation")
    assert artifacts(plans).keys() == {"prompts", *stages, *(f"round-{k}/{stage}" for k in (2, 3) for stage in stages)}
    for before, after in ((first, second), (second, third)):
        model = before.trainings[0].model
        assert (after.base.folder, after.base.identity) == (model.path, model.fingerprint)
        assert after.recipe.model == str(model.path)
        assert after.parts[0].branches[0].candidates.inputs["model"]["identity"] == model.fingerprint
        assert after.earlier[-1] is before
    assert {plan.parts[0].corpus.path for plan in plans} == {first.folders.prompts}
    [alone] = plans_of(recipe, tmp_path / "alone")
    assert artifacts([alone])["evaluation"].inputs == artifacts([first])["evaluation"].inputs


def test_a_change_reaches_the_later_rounds(recipe: Recipe, tmp_path: Path) -> None:
    before = recipe.model_copy(update={"rounds": 2})
    after = before.model_copy(update={"train": before.train.model_copy(update={"epochs": 7.0})})
    later = {f"round-2/{stage}" for stage in ("candidates", "distilled", "model", "evaluation", "validation")}
    assert changed(before, after, tmp_path) == {"model", "evaluation", "validation"} | later


def test_what_decides_about_a_further_round_is_of_prompts_that_no_report_is_of(recipe: Recipe, tmp_path: Path) -> None:
    task = resolve(recipe).parts[""].task
    valid, test = ({item.prompt.prompt_id for item in held_out(recipe, task, split)} for split in ("valid", "test"))
    assert valid
    assert not valid & test
    plan = plans_of(recipe.model_copy(update={"rounds": 2}), tmp_path)[0]
    finish(plan, [NO_GAIN])
    report = json.loads((plan.folders.report / "report.json").read_text())
    report["comparisons"] = {"student_vs_base": {"all": report_with(GAIN)["validation"]}}
    write_json(plan.folders.report / "report.json", report)
    assert rounds_run([plan], "generate") == [1]
    # Nothing has a reference here, so that System 2's answer is the measure.
    assert plan.parts[0].validation.inputs["methods"].keys() == plan.parts[0].validated.keys() == {"base", "teacher"}  # type: ignore[union-attr]


def test_with_references_system_2_is_not_asked_to_decide_about_a_further_round(
    shared: dict[str, Any], tmp_path: Path
) -> None:
    task = {"name": "coin_flip", "train_items": 12, "valid_items": 4, "test_items": 6}
    labelled = Recipe.model_validate(shared | {"task": task, "method": "s2a", "rounds": 2})
    assert plans_of(labelled, tmp_path)[0].parts[0].validated.keys() == {"base"}


def test_rounds_without_prompts_to_decide_about_them_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    options = {key: value for key, value in recipe.task.options.items() if key != "valid_share"}
    two = recipe.model_copy(update={"rounds": 2, "task": Named(name="prompts", **options)})
    with pytest.raises(UserError, match="held out to decide about a further round: set valid_share"):
        plans_of(two, tmp_path)


def test_the_rounds_of_a_mixture_have_parts_too(shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path) -> None:
    _, second = plans_of(mixture(shared | {"rounds": 2}, tasks), tmp_path)
    assert {part.folders.model for part in second.parts} == {tmp_path / "run" / "round-2" / "model"}
    assert second.parts[1].branches[0].candidates.path == tmp_path / "run/round-2/parts/two/candidates"


@cache
def some_report() -> Report:
    with TemporaryDirectory() as folder:
        return write_report(REPORTED, Toy(), write_run(Path(folder) / "toy", Toy(), REPORTED_ARMS[:3]))


def report_with(gain: Paired | None) -> dict[str, Any]:
    """The content of a report.json by whose figures a round gained so much; None for one without a student."""
    return some_report().model_copy(update={"validation": gain}).model_dump(mode="json")


def finish(plan: Plan, gains: Sequence[Any]) -> None:
    """Leave in the folders what a finished round leaves there for the next: manifests, and the reports' gains."""
    for stage in pipeline.STAGES:
        for artifact in plan.artifacts(stage):
            finish_artifact(artifact)
    for part, gain in zip(plan.parts, gains, strict=True):
        part.folders.report.mkdir()
        write_json(part.folders.report / "report.json", report_with(gain))


def rounds_run(plans: Sequence[Plan], *stages: str) -> list[int]:
    return [plan.round for plan in pipeline.rounds(plans, stages)]


def test_a_round_follows_while_the_one_before_gained_something(recipe: Recipe, tmp_path: Path) -> None:
    plans = plans_of(recipe.model_copy(update={"rounds": 3}), tmp_path)
    seen = []
    for plan in pipeline.rounds(plans, ["generate"]):
        seen.append(plan.round)
        finish(plan, [GAIN if plan.round == 1 else NO_GAIN])
    assert seen == [1, 2]


@pytest.mark.parametrize(("gain", "follows"), [(GAIN, True), (NO_GAIN, False), (None, False)])
def test_a_worse_or_missing_model_is_no_gain(recipe: Recipe, tmp_path: Path, gain: Any, follows: bool) -> None:
    plans = plans_of(recipe.model_copy(update={"rounds": 2}), tmp_path)
    finish(plans[0], [gain])
    assert rounds_run(plans, "generate", "curate") == ([1, 2] if follows else [1])
    worse = paired([False] * 20, [True] * 20)
    assert worse.significant
    write_json(plans[0].folders.report / "report.json", report_with(worse))
    assert rounds_run(plans, "generate") == [1]


def test_a_mixture_goes_on_while_one_part_gains(shared: dict[str, Any], tasks: dict[str, Any], tmp_path: Path) -> None:
    plans = plans_of(mixture(shared | {"rounds": 2}, tasks), tmp_path)
    finish(plans[0], [NO_GAIN, GAIN])
    assert rounds_run(plans, "generate") == [1, 2]


def test_a_stage_alone_runs_in_the_rounds_that_have_got_there(recipe: Recipe, tmp_path: Path) -> None:
    plans = plans_of(recipe.model_copy(update={"rounds": 2}), tmp_path)
    assert rounds_run(plans, "generate", "curate") == [1], "round 1 has no report"
    finish(plans[0], [GAIN])
    assert rounds_run(plans, "generate") == [1, 2]
    assert rounds_run(plans, "train") == [1], "round 2 has nothing to train on"


def test_a_later_round_of_another_recipe_is_refused_and_none_is_begun_early(recipe: Recipe, tmp_path: Path) -> None:
    two = recipe.model_copy(update={"rounds": 2})
    folders = RunFolders(tmp_path / "run")
    pipeline.ingest(resolve(two), folders)
    pipeline.prepare(resolve(two), folders, list(pipeline.STAGES))
    assert folders.candidates.exists()
    assert not folders.round(2).base.exists()
    Artifact(folders.round(2).candidates, {"seed": 7}, CandidatesManifest).open()
    with pytest.raises(UserError, match=r"round-2/candidates was made by a different recipe \("):
        pipeline.prepare(resolve(two), folders, list(pipeline.STAGES))
    plans = pipeline.prepare(resolve(two), folders, list(pipeline.STAGES), overwrite=True)
    assert (
        json.loads((folders.round(2).candidates / "inputs.json").read_text())
        == artifacts(plans)["round-2/candidates"].inputs
    )


def test_a_part_that_cannot_run_is_refused(shared: dict[str, Any], tasks: dict[str, Any]) -> None:
    wrong = mixture(shared, tasks, two={"method": "s3a"})
    with pytest.raises(UserError, match="no method s3a"):
        resolve(wrong)


def judging(**evaluate: Any) -> Recipe:
    content = {"name": "mine", "model": "a-model", "task": "judge", "method": {"name": "bsm", "prompts": "few_shot"}}
    return Recipe.model_validate(content | {"engine": {"kind": "scripted"}, "evaluate": evaluate})


def test_evaluation_adds_its_options_and_its_methods() -> None:
    assert base_arms(
        judging(method={"both_orders": True}, also=["cot", {"name": "rar1", "prompts": "few_shot_cot"}])
    ) == {
        "base": Named(name="direct"),
        "base_few_shot": Named(name="direct", examples_of="bsm", prompts="few_shot"),
        "teacher": Named(name="bsm", prompts="few_shot", both_orders=True),
        "teacher_bsm": Named(name="bsm", prompts="few_shot"),
        "teacher_cot": Named(name="cot"),
        "teacher_rar1": Named(name="rar1", prompts="few_shot_cot"),
    }


def test_a_recipe_may_say_itself_how_the_judge_of_one_order_is_asked() -> None:
    merged = {"name": "bsm", "prompts": "few_shot", "merge": "model"}
    arms = base_arms(judging(method={"both_orders": True}, also=[merged]))
    assert arms["teacher_bsm"] == Named(**merged)
    assert "teacher_bsm" not in base_arms(judging())


def test_system_1_is_not_asked_few_shot_where_system_2_is_shown_no_examples(recipe: Recipe) -> None:
    assert list(base_arms(recipe)) == ["base", "teacher"]
    own = recipe.model_copy(update={"method": Named(name="tests.scripts:ask_twice")})
    assert list(base_arms(own)) == ["base", "teacher"]


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
        resolve(judging(**evaluate))
    assert told in str(caught.value)


def test_a_change_of_what_is_evaluated_is_a_change_of_the_evaluation_alone(
    shared: dict[str, Any], tmp_path: Path
) -> None:
    before = judging().model_copy(update={"model": shared["model"]})
    changes: list[dict[str, Any]] = [{"method": {"both_orders": True}}, {"also": ["cot"]}]
    for number, evaluate in enumerate(changes):
        after = judging(**evaluate).model_copy(update={"model": shared["model"]})
        assert changed(before, after, tmp_path / str(number)) == {"evaluation"}


def test_a_training_that_had_nothing_to_train_on_made_no_model(shared: dict[str, Any], tmp_path: Path) -> None:
    [plan] = plans_of(judging().model_copy(update={"model": shared["model"]}), tmp_path)
    main, control, _ = plan.trainings
    for training, manifest in ((main, ModelManifest(skipped="nothing was kept", seconds=0.0)), (control, MODEL)):
        training.model.open()
        training.model.finish(manifest)
    assert (main.made_model, control.made_model) == (False, True)


def test_an_evaluation_with_arms_of_an_earlier_version_is_refused_until_it_is_made_anew(
    recipe: Recipe, tmp_path: Path
) -> None:
    folders = RunFolders(tmp_path / "run")
    recipe = with_dtype(recipe, choose=lambda: Choice("float32", "this machine", "said so"))
    [plan] = plans_of(recipe, tmp_path)
    finish(plan, [GAIN])
    manifest, inputs = (folders.evaluation / name for name in ("manifest.json", "inputs.json"))
    inputs.write_text(inputs.read_text().replace('"base": {', '"system1": {').replace('"teacher": {', '"system2": {'))
    said = r"system1, system2.*distilled_system1 to student_of_base.*`s2d evaluate trial --overwrite` and `s2d report"
    for stages in (["report"], ["evaluate"], list(pipeline.STAGES)):
        with pytest.raises(UserError, match=said):
            pipeline.prepare(resolve(recipe), folders, stages)
    pipeline.prepare(resolve(recipe), folders, ["evaluate"], overwrite=True)
    assert not manifest.exists()


def test_a_report_of_an_earlier_version_starts_no_further_round(recipe: Recipe, tmp_path: Path) -> None:
    plans = plans_of(recipe.model_copy(update={"rounds": 2}), tmp_path)
    finish(plans[0], [GAIN])
    old = report_with(GAIN)
    del old["schema_version"]
    write_json(plans[0].folders.report / "report.json", old)
    with pytest.raises(UserError, match=r"another version of s2d_ray: run `s2d report toy`"):
        rounds_run(plans, "generate")
