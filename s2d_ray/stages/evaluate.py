"""Evaluate: every arm answers the held-out prompts, through one path.

An arm is a model and a method, and nothing else. The models take turns in an engine: it answers all that it is given
with one before it loads the next.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil

import pyarrow as pa

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import write_table
from s2d_ray.data.manifests import EvaluationManifest
from s2d_ray.data.records import ANSWERS, LABELLED, Row, labelled_from_row, labelled_to_row, sample_to_row
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.inference.engine import CompletionEngine, EngineDied
from s2d_ray.inference.method_runs import run_on_all_forms
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.stages.row_jobs import Pass, RowFunction, RowJob, process_rows
from s2d_ray.tasks.corpus import held_out
from s2d_ray.tasks.task import Split, Task

Arms = Mapping[str, Method]
"""Arm name → method, for the arms of one model."""


def evaluate(
    recipe: Recipe,
    task: Task,
    models: Sequence[tuple[Model, Arms]],
    evaluation: Artifact[EvaluationManifest],
    label: str,
    split: Split = "test",
) -> None:
    """Every arm's answers to the held-out prompts of a split; finished parts are not answered again."""
    if evaluation.open():
        return
    items, folder = held_out(recipe, task, split), evaluation.path
    start = time.monotonic()
    source = folder / "_held_out"
    source.mkdir(exist_ok=True)
    table = pa.Table.from_pylist([labelled_to_row(item) for item in items], schema=LABELLED)
    write_table(source / "part-0.parquet", table)
    job = RowJob(
        # One engine for all: a model takes a second to load into it, an engine half a minute to start.
        passes=[Pass(model.folder, partial(_answer_row, recipe, task, arms)) for model, arms in models],
        engine=recipe.answering_engine,
        trust_remote_code=recipe.trust_remote_code,
        output=ANSWERS,
        concurrent_rows=recipe.generate.concurrent_rows,
        commit_rows=min(recipe.generate.commit_rows, max(1, ceil(len(items) / recipe.engine.max_engines))),
    )
    processed = process_rows(job, source, folder, label)
    names = tuple(arm for _, arms in models for arm in arms)
    seconds = time.monotonic() - start
    evaluation.finish(EvaluationManifest(rows=len(items), arms=names, model_loads=processed.loads, seconds=seconds))
    forget_checkpoint(folder)


def _answer_row(recipe: Recipe, task: Task, arms: Arms) -> RowFunction:
    """What an engine actor does with one held-out prompt: each arm of its model."""
    settings = recipe.evaluate

    async def answer(row: Row, engine: CompletionEngine) -> list[Row]:
        prompt = labelled_from_row(row).prompt
        answers: list[Row] = []
        for arm, method in arms.items():
            given: Row = {"arm": arm, "samples": [], "error": ""}
            try:
                samples = await run_on_all_forms(
                    method, task, prompt, engine, settings.sampling, settings.samples, recipe.seed
                )
                given["samples"] = [sample_to_row(sample) for sample in samples]
            except EngineDied:
                raise
            except Exception as error:  # A bad row is data here too: it counts as not answered.
                given["error"] = f"{type(error).__name__}: {error}"
            answers.append(row | given)
        return answers

    return answer
