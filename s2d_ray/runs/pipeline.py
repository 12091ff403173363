"""READ FIRST: the stages of a distillation, in order.

    unlabelled prompts → System 2 (Ray Data over engines) → curation without labels → fine-tuning of the same
    model on (prompt, answer) → every arm on held-out prompts → report

Each stage leaves a folder that the next one reads; a finished folder is reused, an unfinished one resumed.
A plan is one round. A recipe is one part; the parts of a mixture have all stages but the training to themselves.
The controls of the paper, and students on other targets, run through the same stages as branches of their own (see
`graph.py`).
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from s2d_ray.arms import refuse_former
from s2d_ray.data.artifacts import Artifact, read_inputs
from s2d_ray.data.folders import RunFolders
from s2d_ray.devices import Choice, choose_dtype
from s2d_ray.methods.direct import direct
from s2d_ray.methods.registry import load_method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.graph import Plan, PlannedPart, Training, make_plans
from s2d_ray.runs.names import STAGES as STAGE_NAMES
from s2d_ray.runs.resolved import ResolvedRecipe
from s2d_ray.runs.revisions import keep_commit, with_commit
from s2d_ray.tasks.corpus import left_out, write_corpus
from s2d_ray.terminal import console


def ingest(resolved: ResolvedRecipe, folders: RunFolders, overwrite: bool = False) -> None:
    """The unlabelled prompts of each part, read once and written with their ids."""
    for name, part in resolved.parts.items():
        corpus = write_corpus(part.recipe, part.task, folders.part(name).prompts, overwrite)
        for line in left_out(corpus.manifest, with_place=True):
            console.print(f"{name}: {line}" if name else line, markup=False)


def generate(plan: Plan) -> None:
    """System 2 answers the unlabelled prompts; for a control, System 1 does."""
    from s2d_ray.stages.generate import generate as run

    for part in plan.parts:
        for branch in part.branches:
            if branch.generates:
                label = part.label("generate", branch.arm)
                run(part.recipe, part.task, branch.method, plan.base, part.corpus, branch.candidates, label)


def curate(plan: Plan) -> None:
    """Each prompt's candidates become a target or a rejection, without labels."""
    from s2d_ray.stages.curate import curate as run

    for part in plan.parts:
        for branch in part.branches:
            label = part.label("curate", branch.arm)
            run(part.recipe, part.task, branch.rules, plan.base, branch.candidates, branch.distilled, label)


def train(plan: Plan) -> None:
    """The base model learns the targets of all parts together, where there are any; all arms in as many steps."""
    from s2d_ray.stages.train import Source
    from s2d_ray.stages.train import train as run

    for training in plan.trainings:
        sources = [Source(part, b.distilled, b.max_examples) for part, b in training.branches.items()]
        run(training.recipe, plan.base, sources, training.model, training.label, steps_of(plan, training))


def steps_of(plan: Plan, training: Training) -> int | None:
    """Of the optimizer: as the recipe says, else for all others as many as the distilled model took.

    None: as many as the recipe's passes over the training's own pairs make. So it is for the distilled model, and for
    the others where there is none, since curation kept nothing.
    """
    student = plan.trainings[0]
    if plan.recipe.train.steps is not None or training is student:
        return plan.recipe.train.steps
    return student.model.manifest.steps or None


def evaluate(plan: Plan) -> None:
    """Every arm answers the held-out prompts; what was lost is measured beside, and answers are judged if asked for."""
    from s2d_ray.stages.benchmarks import run_benchmarks
    from s2d_ray.stages.evaluate import evaluate as run

    trained = [(Model.local(t.arm, t.model.path), {t.arm: direct}) for t in plan.trainings if t.made_model]
    student = next((model for model, arms in trained if "student" in arms), None)
    for part in plan.parts:
        models = [(plan.base, part.base_arms), *trained]
        beside = _general_work(plan, student), _judge_work(part)
        run(part.recipe, part.task, models, part.evaluation, part.label("evaluate"), "test", *beside)
        if part.validation:
            pair = [(plan.base, part.validated), *((m, arms) for m, arms in trained if "student" in arms)]
            run(part.recipe, part.task, pair, part.validation, part.label("validate"), "valid")
    if plan.benchmarks:
        run_benchmarks(plan.recipe, plan.base, student, plan.benchmarks)


def _general_work(plan: Plan, student: Model | None) -> Any:
    from s2d_ray.stages.general import GeneralWork

    corpora = [part.corpus.path for part in plan.parts]
    return GeneralWork(plan.recipe, plan.base, student, corpora, plan.general) if plan.general else None


def _judge_work(part: PlannedPart) -> Any:
    from s2d_ray.stages.judge import JudgeWork

    judge = part.recipe.evaluate.judge
    if judge is None or part.judged is None or part.judge_model is None:
        return None
    return JudgeWork(judge, load_method(judge.method), part.judge_model, part.judged)


def report(plan: Plan) -> None:
    """What came of it, for people and for programs."""
    from s2d_ray.report.overview import write_overview
    from s2d_ray.report.report import write_report

    for part in plan.parts:
        write_report(part.recipe, part.task, part.folders)
    if plan.has_overview:
        rounds = [*plan.earlier, plan]
        write_overview(rounds[0].recipe, [earlier.part_folders for earlier in rounds], rounds[0].folders.report)


STAGES: Mapping[str, Callable[[Plan], None]] = {
    "generate": generate,
    "curate": curate,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
"""What each stage does in a round, once `ingest` has written what all rounds share; in the order in which they run."""


def rounds(plans: Sequence[Plan], stages: Sequence[str]) -> Iterator[Plan]:
    """The rounds in which to run `stages`, one after the other.

    That is the first; then each for which the stages before `stages` have run, until a round gained nothing.
    """
    for plan in plans:
        if plan.earlier and not _follows(plan, stages[0]):
            return
        yield plan


def _follows(plan: Plan, first_stage: str) -> bool:
    from s2d_ray.report.overview import gained, reports_of

    before = plan.earlier[-1]
    needed = [artifact for stage in STAGES for artifact in before.artifacts(stage)] + _made_before(plan, first_stage)
    if not all(artifact.finished for artifact in needed):
        return False
    for artifact in needed:
        artifact.require()
    return gained(reports_of(before.part_folders).values())


def _made_before(plan: Plan, stage: str) -> list[Artifact[Any]]:
    """What the stages before this one make."""
    names = list(STAGE_NAMES)
    return [artifact for earlier in names[: names.index(stage)] for artifact in plan.artifacts(earlier)]


def _choose_dtype(recipe: AnyRecipe, folders: RunFolders) -> Choice:
    """For the machines that engines run on, and said."""
    ray = sys.modules.get("ray")  # Where it was not imported, it is not joined.
    on_a_cluster = bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())
    if recipe.engine.kind == "vllm" and on_a_cluster:
        from s2d_ray.stages.cluster import on_an_engines_machine

        choice = on_an_engines_machine(choose_dtype, recipe.engine, folders.logs)
    else:
        choice = choose_dtype()
    console.print(f"computing in {choice.dtype} on {choice.device}: {choice.reason}", markup=False, highlight=False)
    return choice


def _refuse_former_arms(plans: Sequence[Plan]) -> None:
    for plan in plans:
        for part in plan.parts:
            folder = part.evaluation.path
            refuse_former(read_inputs(folder).get("methods", ()), folder, plan.recipe.name)


def prepare(
    resolved: ResolvedRecipe, folders: RunFolders, stages: Sequence[str], overwrite: bool = False
) -> list[Plan]:
    """The plans of a run, one a round, after all that can be checked without Ray or an engine. Raises UserError.

    The folders of `stages`, which come after `ingest`, are made ready: results of another recipe are refused, or
    removed if `overwrite`. In later rounds only those that are there already: a round may turn out to be the last.
    """
    asked, anew = resolved.recipe, overwrite and stages[0] == next(iter(STAGES))
    recipe = with_commit(asked, None if anew else folders)
    recipe = with_dtype(recipe, None if anew else folders, partial(_choose_dtype, recipe, folders))
    plans = make_plans(resolved.with_settings(recipe), folders, anew)
    if "report" in stages or ("evaluate" in stages and not overwrite):
        _refuse_former_arms(plans)
    for artifact in _made_before(plans[0], stages[0]):
        artifact.require()
    for plan in plans:
        for stage in stages:
            for artifact in plan.artifacts(stage):
                if plan is plans[0] or artifact.path.exists():
                    artifact.open(overwrite)
    keep_commit(asked, recipe, folders)
    return plans
