"""Judge: a model is shown two arms' answers at a time, in both orders, once all arms have answered."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.contents import write_stamped
from s2d_ray.data.files import make_folder, read_rows
from s2d_ray.data.manifests import EvaluationManifest, JudgedManifest
from s2d_ray.data.records import Row, Sample, candidates_from_row, prompt_from_row
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.evaluation.judging import JUDGEMENTS, PAIRS, final_text, pairs
from s2d_ray.evaluation.metrics import PromptKey
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.chat import DEFAULT_CHAT
from s2d_ray.recipes.evaluate import Judging
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.failures import failures_in, refuse
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, process_rows
from s2d_ray.tasks.task import Task


@dataclass(frozen=True)
class JudgeWork:
    """Who judges, by which method, and where it goes."""

    settings: Judging
    method: Method
    model: Model
    artifact: Artifact[JudgedManifest]

    @property
    def again(self) -> Path:
        """System 2's second answers (schema `ANSWERS`), where evaluation draws only one."""
        return self.artifact.path / "_again"

    def judge(self, recipe: Recipe, task: Task, evaluation: Artifact[EvaluationManifest], label: str) -> None:
        """A row of schema `JUDGEMENTS` for each prompt and pair of arms. Finished parts are not judged again.

        Raises UserError where more pairs failed than the recipe allows.
        """
        if self.artifact.open():
            return
        start, folder = time.monotonic(), self.artifact.path
        rows = list(read_rows(evaluation.path))
        found = pairs(rows, self._second_answers(rows, recipe, task), task)
        source = folder / "_pairs"
        make_folder(source)
        write_stamped(source / "part-0.parquet", pa.Table.from_pylist(found, schema=PAIRS))
        job = RowJob(
            passes=[
                Pass(
                    Rows(source, folder, JUDGEMENTS, recipe.generate.commit_rows),
                    self.model.folder,
                    partial(_judge_row, self.settings, self.method, recipe.seed),
                )
            ],
            engine=recipe.engine,
            trust_remote_code=recipe.trust_remote_code,
            # What the recipe says of its own model says nothing about another.
            chat=recipe.chat if self.settings.model == "base" else DEFAULT_CHAT,
            concurrent_rows=recipe.generate.concurrent_rows,
            method_timeout=recipe.engine.method_timeout,
        )
        process_rows(job, label)
        refuse(failures_in(folder), recipe.evaluate.max_failed_share, "pairs", "evaluate.max_failed_share", folder)
        self.artifact.finish(JudgedManifest(rows=len(found), seconds=time.monotonic() - start))
        forget_checkpoint(folder)
        forget_checkpoint(self.again)

    def _second_answers(self, rows: list[Row], recipe: Recipe, task: Task) -> Mapping[PromptKey, str]:
        if recipe.evaluate.samples == 1:
            return {(row["subset"], row["prompt_id"]): final_text(row, task) for row in read_rows(self.again)}
        return {(row["subset"], row["prompt_id"]): _other(row, task) for row in rows if row["arm"] == "teacher"}


def _other(row: Row, task: Task) -> str:
    """The text of a sample beside the one that stands for System 2; may be empty."""
    shown = final_text(row, task)
    texts = [sample.text for sample in candidates_from_row(row).samples if _answers(sample)]
    if shown in texts:
        texts.remove(shown)
    return next(iter(texts), "")


def _answers(sample: Sample) -> bool:
    return not sample.variant and not sample.error


def _judge_row(settings: Judging, method: Method, seed: int) -> RowWork:
    """What an engine actor does with one pair."""

    async def decide(row: Row, engine: CompletionEngine) -> list[Row]:
        first, second = row["first_text"].strip(), row["second_text"].strip()
        if first == second or not (first and second):
            # Nothing to ask: the same, or one that gave no answer, which is worse than any.
            verdict: str | None = "tie" if bool(first) == bool(second) else "A" if first else "B"
            return [_kept(row) | {"asked": False, "verdict": verdict, "verdict_swapped": verdict, "error": ""}]
        judge = PairwiseJudge(method, engine, settings.sampling)
        verdict, swapped = await judge.both_orders(prompt_from_row(row), first, second, seed)
        return [_kept(row) | {"asked": True, "verdict": verdict, "verdict_swapped": swapped, "error": ""}]

    def failed(row: Row, reason: str) -> list[Row]:
        """A pair that cannot be judged is a tie."""
        return [_kept(row) | {"asked": True, "verdict": None, "verdict_swapped": None, "error": reason}]

    return RowWork(decide, failed)


def _kept(row: Row) -> Row:
    return {name: row[name] for name in JUDGEMENTS.names if name in row}
