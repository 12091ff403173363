"""Curate: each prompt's candidates become one target, or a rejection with its reason."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from s2d_ray.curation.data_card import STATUSES, count_outcomes, write_data_card
from s2d_ray.curation.rule import Rule, curate_prompt, failed_prompt
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_rows
from s2d_ray.data.manifests import CandidatesManifest, DistilledManifest
from s2d_ray.data.records import DECISIONS, Row, candidates_from_row
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.inference.method_runs import Recorder
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.failures import Failures, refuse
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, process_rows
from s2d_ray.tasks.task import Task

# Rows are cheap here; parts are large so that a big corpus does not become a million files.
COMMIT_ROWS = 4096


def curate(
    recipe: Recipe,
    task: Task,
    rules: Sequence[Rule],
    model: Model,
    candidates: Artifact[CandidatesManifest],
    distilled: Artifact[DistilledManifest],
    label: str,
) -> None:
    """The distilled set: kept, rejected and failed prompts in a folder each, and the data card.

    Raises UserError where a rule failed on more prompts than the recipe allows.
    """
    if distilled.open():
        return
    folder, start = distilled.path, time.monotonic()
    needs_engine = any(rule.needs_engine for rule in rules)
    commit_rows = recipe.generate.commit_rows if needs_engine else COMMIT_ROWS
    rows = Rows(candidates.path, folder, DECISIONS, commit_rows, partition_by="status")
    job = RowJob(
        passes=[Pass(rows, model.folder, partial(_curate_row, recipe, task, rules))],
        engine=recipe.engine if needs_engine else None,
        trust_remote_code=recipe.trust_remote_code,
        chat=recipe.chat,
        concurrent_rows=recipe.generate.concurrent_rows,
        method_timeout=recipe.engine.method_timeout,
    )
    process_rows(job, label)
    outcomes = count_outcomes(outcome_rows(folder, ["reason", "vote_share"]))
    # Those that System 2 could not answer have been counted when it was asked.
    failed = sum(outcomes.failed.values()) - candidates.manifest.failed
    found = Failures(outcomes.rows, failed, _first_reason(folder, candidates.path) if failed else "")
    refuse(found, recipe.curate.max_failed_share, "prompts", "curate.max_failed_share", folder / "status=failed")
    write_data_card(folder, recipe, rules, outcomes, candidates.inputs, task.source)
    distilled.finish(DistilledManifest(**dict(outcomes), seconds=time.monotonic() - start))
    forget_checkpoint(folder)


def _first_reason(folder: Path, candidates: Path) -> str:
    """Of the prompts that failed at the rules, and not at System 2."""
    before = {row["prompt_id"] for row in read_rows(candidates, ["prompt_id", "error"]) if row["error"]}
    failed = read_rows(folder / "status=failed", ["prompt_id", "reason"])
    return next((row["reason"] for row in failed if row["prompt_id"] not in before), "")


def outcome_rows(folder: Path, columns: list[str]) -> Iterator[Row]:
    """The rows of a distilled folder with their status, which is in the path and not in the files."""
    for status in STATUSES:
        for row in read_rows(folder / f"status={status}", columns):
            yield row | {"status": status}


def _curate_row(recipe: Recipe, task: Task, rules: Sequence[Rule]) -> RowWork:
    async def answer(row: Row, engine: CompletionEngine | None) -> list[Row]:
        candidates = candidates_from_row(row)
        seed = (str(recipe.seed), candidates.prompt.prompt_id, "curation")
        generate = Recorder(engine, recipe.generate.sampling, seed) if engine else None
        decision = await curate_prompt(candidates, rules, task, generate)
        return [decision | {"calls": [asdict(step) for step in generate.steps] if generate else []}]

    def failed(row: Row, reason: str) -> list[Row]:
        return [failed_prompt(candidates_from_row(row).prompt, reason)]

    return RowWork(answer, failed)
