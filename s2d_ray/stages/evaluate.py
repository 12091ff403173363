"""Evaluate: every arm answers the held-out prompts, through one path.

An arm is a model and a method, and nothing else. The models take turns in an engine: it answers all that it is given
with one before it loads the next. What else is to be known of a model is asked while it is loaded.
"""

import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path

import pyarrow as pa

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.contents import write_stamped
from s2d_ray.data.files import make_folder
from s2d_ray.data.manifests import EvaluationManifest
from s2d_ray.data.records import (
    ANSWERS,
    LABELLED,
    LabelledPrompt,
    Row,
    Sample,
    labelled_from_row,
    labelled_to_row,
    sample_to_row,
)
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.errors import UserError
from s2d_ray.evaluation.metrics import answer_of
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.inference.method_runs import run_on_all_forms
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.stages.boundary import Failed, RowWork, or_failed
from s2d_ray.stages.failures import failures_by, refuse
from s2d_ray.stages.general import GeneralWork
from s2d_ray.stages.judge import JudgeWork
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, process_rows
from s2d_ray.tasks.corpus import held_out, held_out_digest
from s2d_ray.tasks.task import Split, Task

SETTING = "evaluate.max_failed_share"
Arms = Mapping[str, Method]
"""Arm name → method, for the arms of one model."""


def evaluate(
    recipe: Recipe,
    task: Task,
    models: Sequence[tuple[Model, Arms]],
    evaluation: Artifact[EvaluationManifest],
    label: str,
    split: Split = "test",
    general: GeneralWork | None = None,
    judging: JudgeWork | None = None,
) -> None:
    """Every arm's answers to the held-out prompts of a split; finished parts are not answered again.

    With them the general set's, and what a judge then makes of the answers, where these are asked for.
    Raises UserError where the prompts are no more those that the run was planned with, or more answers of an arm failed
    than the recipe allows.
    """
    start, items = time.monotonic(), held_out(recipe, task, split)
    if evaluation.inputs.get("prompts", digest := held_out_digest(items)) != digest:
        raise UserError(f"the held-out prompts changed meanwhile ({task.source}): run the same command again")
    beside = [*(general.passes() if general else ()), *_again(recipe, task, items, models, judging)]
    # Opened last of all, so that the time is counted as evaluation's.
    done = evaluation.open()
    own = [] if done else _passes(recipe, task, items, models, evaluation.path)
    places = {model.folder: place for place, (model, _) in enumerate(models)}
    passes = sorted([*own, *beside], key=lambda each: places[each.model])
    loads = 0
    if passes:
        job = RowJob(
            # One engine for all: a model takes a second to load into it, an engine half a minute to start.
            passes=passes,
            engine=recipe.answering_engine,
            trust_remote_code=recipe.trust_remote_code,
            chat=recipe.chat,
            concurrent_rows=recipe.generate.concurrent_rows,
            method_timeout=recipe.engine.method_timeout,
        )
        loads = process_rows(job, label).loads
    seconds = time.monotonic() - start
    if general:
        general.finish(loads, seconds)
    if not done:
        for arm, found in failures_by(evaluation.path, "arm").items():
            refuse(found, recipe.evaluate.max_failed_share, f"answers of {arm}", SETTING, evaluation.path)
        names = tuple(chain.from_iterable(arms for _, arms in models))
        evaluation.finish(EvaluationManifest(rows=len(items), arms=names, model_loads=loads, seconds=seconds))
        forget_checkpoint(evaluation.path)
    if judging:
        judging.judge(recipe, task, evaluation, f"{label}: judge")


def _passes(
    recipe: Recipe, task: Task, items: Sequence[LabelledPrompt], models: Sequence[tuple[Model, Arms]], folder: Path
) -> list[Pass]:
    rows = _rows(recipe, items, folder)
    sampled = recipe.evaluate.sampling, recipe.evaluate.samples, recipe.seed
    return [
        Pass(rows, model.folder, partial(_answer_row, recipe, task, arms, *sampled), rows_each=len(arms))
        for model, arms in models
    ]


def _again(
    recipe: Recipe,
    task: Task,
    items: Sequence[LabelledPrompt],
    models: Sequence[tuple[Model, Arms]],
    judging: JudgeWork | None,
) -> list[Pass]:
    """A judge is also shown two answers of System 2: a second one, where evaluation draws one alone.

    That is sampled as generation does, and by another seed: else it could be the same.
    """
    if judging is None or judging.artifact.open() or recipe.evaluate.samples > 1:
        return []
    base, arms = models[0]
    rows = _rows(recipe, items, judging.again)
    sampled = recipe.generate.sampling, 1, recipe.seed + 1
    return [Pass(rows, base.folder, partial(_answer_row, recipe, task, {"teacher": arms["teacher"]}, *sampled))]


def _rows(recipe: Recipe, items: Sequence[LabelledPrompt], target: Path) -> Rows:
    """The held-out prompts, written beside where their answers go."""
    source = target / "_held_out"
    make_folder(source)
    table = pa.Table.from_pylist([labelled_to_row(item) for item in items], schema=LABELLED)
    write_stamped(source / "part-0.parquet", table)
    each = max(1, ceil(len(items) / recipe.engine.max_engines))
    return Rows(source, target, ANSWERS, min(recipe.generate.commit_rows, each))


def _answer_row(recipe: Recipe, task: Task, arms: Arms, sampling: Sampling, samples: int, seed: int) -> RowWork:
    """What an engine actor does with one held-out prompt: each arm of its model."""

    async def answer(row: Row, engine: CompletionEngine) -> list[Row]:
        prompt, answers = labelled_from_row(row).prompt, list[Row]()
        for arm, method in arms.items():
            found = run_on_all_forms(method, task, prompt, engine, sampling, samples, seed)
            answered = await or_failed(_readable(row | _given(arm), found, task), recipe.engine.method_timeout)
            answers.append(row | _given(arm, answered.reason) if isinstance(answered, Failed) else answered)
        return answers

    def failed(row: Row, reason: str) -> list[Row]:
        return [row | _given(arm, reason) for arm in arms]

    return RowWork(answer, failed, limits_itself=True)


def _given(arm: str, error: str = "") -> Row:
    """With an error it counts as not answered."""
    return {"arm": arm, "samples": [], "error": error}


async def _readable(row: Row, found: Awaitable[Sequence[Sample]], task: Task) -> Row:
    """The row with an arm's samples, where these can be written, and the task can read them, as a report does."""
    answered = row | {"samples": [sample_to_row(sample) for sample in await found]}
    pa.array([answered["samples"]], ANSWERS.field("samples").type)
    answer = answer_of(answered, task).answer
    if row["references"]:
        task.correct(answer, row["references"])
    return answered
