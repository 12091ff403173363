"""Generate: a method answers every unlabelled prompt several times."""

import time
from functools import partial

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.manifests import CandidatesManifest, CorpusManifest
from s2d_ray.data.records import CANDIDATES, Candidates, Row, candidates_to_row, prompt_from_row
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.inference.method_runs import run_on_all_forms
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.failures import failures_in, refuse
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, process_rows
from s2d_ray.tasks.task import Task


def generate(
    recipe: Recipe,
    task: Task,
    method: Method,
    model: Model,
    corpus: Artifact[CorpusManifest],
    candidates: Artifact[CandidatesManifest],
    label: str,
) -> None:
    """Candidates for every prompt of the corpus; resumes where an earlier attempt stopped.

    Raises UserError where more prompts failed than the recipe allows.
    """
    if candidates.open():
        return
    settings, folder = recipe.generate, candidates.path
    start = time.monotonic()
    rows = Rows(corpus.path, folder, CANDIDATES, settings.commit_rows)
    job = RowJob(
        passes=[Pass(rows, model.folder, partial(_answer_row, recipe, task, method))],
        engine=recipe.engine,
        trust_remote_code=recipe.trust_remote_code,
        chat=recipe.chat,
        concurrent_rows=settings.concurrent_rows,
        method_timeout=recipe.engine.method_timeout,
    )
    processed = process_rows(job, label)
    found = failures_in(folder)
    refuse(found, settings.max_failed_share, "prompts", "generate.max_failed_share", folder)
    candidates.finish(
        CandidatesManifest(
            rows=found.rows,
            failed=found.failed,
            generated_now=processed.rows,
            resumed=processed.resumed,
            tokens_now=processed.tokens,
            tokens_per_second=processed.tokens / processed.seconds if processed.seconds else None,
            seconds=time.monotonic() - start,
        )
    )
    forget_checkpoint(folder)


def _answer_row(recipe: Recipe, task: Task, method: Method) -> RowWork:
    """What an engine actor does with one prompt: the method, as often as the recipe says."""
    settings = recipe.generate

    async def answer(row: Row, engine: CompletionEngine) -> list[Row]:
        prompt = prompt_from_row(row)
        if not prompt.text.strip():
            return failed(row, "the prompt is empty")
        samples = await run_on_all_forms(method, task, prompt, engine, settings.sampling, settings.samples, recipe.seed)
        return [candidates_to_row(Candidates(prompt, samples))]

    def failed(row: Row, reason: str) -> list[Row]:
        return [candidates_to_row(Candidates(prompt_from_row(row), [], reason))]

    return RowWork(answer, failed)
