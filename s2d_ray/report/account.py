"""What the folders of a run say of how it went: prompts, precision of targets, tokens, training and time."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

from s2d_ray.arms import CONTROLS, TARGETS, target_arm
from s2d_ray.curation.data_card import why_nothing_kept
from s2d_ray.data.artifacts import Artifact, M
from s2d_ray.data.files import read_json_lines, read_rows
from s2d_ray.data.folders import TRAINING_LOG, RunFolders
from s2d_ray.data.lease import time_spent
from s2d_ray.data.manifests import (
    CandidatesManifest,
    CorpusManifest,
    DistilledManifest,
    ModelManifest,
    TimedManifest,
    VoteShares,
)
from s2d_ray.data.records import Row
from s2d_ray.data.work import TimeSpent
from s2d_ray.evaluation.metrics import Precision, precision
from s2d_ray.recipes.evaluate import Evaluate
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.ledger import Ledger, balance, step_tokens
from s2d_ray.report.sections import LossPoint, PromptCounts, TrainingFigures
from s2d_ray.tasks.corpus import left_out
from s2d_ray.tasks.task import Task

CURVE_POINTS = 400
"""Points of a loss curve at most: more cannot be told apart on a page."""
PRECISION_PROMPTS = 100_000
"""Labelled prompts, the first by id, that the precision of targets is computed from: more only take memory."""

Branches = Mapping[str, RunFolders]
"""Trained arm → its folders."""


def manifest(folder: Path, kind: type[M]) -> M:
    """What a stage wrote about itself. Raises UserError where it has not finished."""
    return Artifact.existing(folder, kind).manifest


def branches_of(folders: RunFolders, beside: Iterable[str] = (*TARGETS, *CONTROLS)) -> dict[str, RunFolders]:
    """The student's, and those of the trained arms `beside` it."""
    return {"student": folders} | {arm: folders.control(arm) for arm in beside}


def arms_beside(settings: Evaluate) -> list[str]:
    """The trained arms that a recipe asks for beside the student."""
    return [*map(target_arm, settings.targets), *(CONTROLS if settings.controls else ())]


def untrained_arms(branches: Branches) -> dict[str, str]:
    """Each arm for which curation kept nothing → the sentence that says so."""
    found = {arm: manifest(own.distilled, DistilledManifest) for arm, own in branches.items() if own.model.exists()}
    return {arm: why_nothing_kept(curated) for arm, curated in found.items() if not curated.kept}


def outcomes(folders: RunFolders) -> PromptCounts:
    """Where the prompts went."""
    curated = manifest(folders.distilled, DistilledManifest)
    return PromptCounts(corpus=curated.rows, **curated.model_dump(include={"kept", "rejected", "failed"}))


def left_out_notes(folders: RunFolders) -> list[str]:
    """What was left out of the prompts on the way; a report is also made where they are not kept."""
    corpus = Artifact(folders.prompts, {}, CorpusManifest)
    return [f"Prompts: {line}." for line in left_out(corpus.manifest, with_place=False)] if corpus.finished else []


def vote_shares(folders: RunFolders) -> VoteShares:
    """How the votes fell."""
    return manifest(folders.distilled, DistilledManifest).vote_shares


def target_precision(recipe: Recipe, task: Task, folders: RunFolders) -> Precision | None:
    """How often curated targets are right, by labels that curation never saw; None where the task has none."""
    labelled = (item for item in task.items("train", recipe.seed) if item.references)
    chosen = heapq.nsmallest(PRECISION_PROMPTS, labelled, key=lambda item: item.prompt.prompt_id)
    references = {item.prompt.prompt_id: item.references for item in chosen}
    units = {item.prompt.prompt_id: item.unit for item in chosen}
    return precision(_decisions(folders), references, units, task) if references else None


def _decisions(folders: RunFolders) -> Iterator[Row]:
    # Curation writes a folder per status, so the status is in the path and not in the files.
    for status in ("kept", "rejected"):
        for row in read_rows(folders.distilled / f"status={status}", ["prompt_id", "target", "votes"]):
            yield row | {"status": status}


def ledger_of(recipe: Recipe, folders: RunFolders, teacher: float | None, student: float | None) -> Ledger:
    """What distilling took, against both arms' generated tokens per answer; None where an arm is of no use."""
    counts = outcomes(folders)
    steps = step_tokens(folders.candidates) | step_tokens(folders.distilled)
    return balance(steps, _work(recipe, folders, counts.kept), counts.corpus, counts.kept, teacher, student)


def _work(recipe: Recipe, folders: RunFolders, kept: int) -> dict[str, TimeSpent]:
    """Stage → time over all attempts; of a mixture's training the share of this part's pairs."""
    spent = time_spent(folders.run)
    made = {"generate": folders.candidates, "curate": folders.distilled, "train": folders.model}
    paths = {stage: str(path.relative_to(folders.run)) for stage, path in made.items()}
    work = {stage: spent[path] for stage, path in paths.items() if path in spent}
    if "train" in work and (trained := manifest(folders.model, ModelManifest)).made_model:
        own = min(kept, recipe.train.max_examples or kept)
        work["train"] = work["train"].share(own / (trained.examples + trained.left_out_too_long))
    return work


def training_of(folders: RunFolders) -> TrainingFigures:
    """One training's figures and loss curve."""
    made = manifest(folders.model, ModelManifest)
    figures = made.model_dump(include={"examples", "steps", "tokens", "seconds", "tokens_per_second"})
    return TrainingFigures(**figures, curve=_loss_curve(folders))


def _loss_curve(folders: RunFolders) -> tuple[LossPoint, ...]:
    # A training that went on from a checkpoint has logged the steps after it twice.
    losses = {entry["step"]: entry["loss"] for entry in read_json_lines(folders.model / TRAINING_LOG)}
    curve = [LossPoint(step=step, loss=loss if isfinite(loss) else None) for step, loss in losses.items()]
    return tuple(curve[:: max(1, -(-len(curve) // CURVE_POINTS))])


def stage_seconds(evaluated: float, branches: Branches, seeds: int) -> dict[str, float]:
    """Seconds of each stage; the controls' are added up under `control_` and the stage, those of other targets under
    `target_`, trainings with further seeds under `repeat_train`."""
    seconds: dict[str, float] = {}
    for arm, branch in branches.items():
        prefix = "control_" if arm in CONTROLS else "target_" if arm in TARGETS else ""
        made: Sequence[tuple[str, Path, type[TimedManifest]]] = (
            ("generate", branch.candidates, CandidatesManifest),
            ("curate", branch.distilled, DistilledManifest),
            ("train", branch.model, ModelManifest),
        )
        for stage, folder, kind in made:
            # What trains on the main branch's candidates has none of its own.
            if arm == "student" or folder.exists():
                key = prefix + stage
                seconds[key] = seconds.get(key, 0.0) + manifest(folder, kind).seconds
        repeated = [branch.repeat(number).model for number in range(2, seeds + 1)]
        if again := [manifest(folder, ModelManifest).seconds for folder in repeated if folder.exists()]:
            seconds["repeat_train"] = seconds.get("repeat_train", 0.0) + sum(again)
        seconds.setdefault("evaluate", evaluated)
    return seconds
