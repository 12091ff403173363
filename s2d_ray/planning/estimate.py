"""What a recipe would take at another size: tokens per prompt are measured, the rest is arithmetic on them.

Measured on a finished run, or on a sample of prompts that goes through the same stages into a temporary folder.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

from rich.table import Table
from safetensors import safe_open

from s2d_ray.data.artifacts import MANIFEST
from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.hub import HubPath
from s2d_ray.data.lease import time_spent
from s2d_ray.errors import UserError
from s2d_ray.planning.sizing import (
    Gpu,
    engine_gpus,
    generating_seconds,
    generation_speed,
    training_gpus,
    training_seconds,
)
from s2d_ray.recipes.recipe import AnyRecipe, Mixture
from s2d_ray.report.ledger import Tokens, step_tokens
from s2d_ray.runs import pipeline
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.graph import Branch, Plan, PlannedPart, make_plans
from s2d_ray.runs.resolved import resolve
from s2d_ray.runs.revisions import base_model
from s2d_ray.training.encoding import encode
from s2d_ray.training.schedule import total_steps

NO_TOKENS = Tokens(0, 0, 0, 0)
PAIRS_READ = 500
"""Curated pairs whose length is measured."""


@dataclass(frozen=True)
class Measured:
    """What the prompts of one branch took."""

    arm: str
    """The arm that learns its pairs, with those of the other parts of a mixture."""
    method: str
    """With the part and the control that it belongs to, if it does."""
    prompts: int
    steps: Mapping[str, Tokens]
    """Of the method, over all prompts; empty where the branch uses another's answers."""
    rule_calls: Mapping[str, Tokens]
    """Of rules that ask the model."""
    kept: int
    tokens_per_pair: float
    max_examples: int | None
    """Pairs that are trained on at most."""
    gpu_seconds: float | None
    """Of generating; None where no GPU took part."""


@dataclass(frozen=True)
class Phase:
    """One stage of one branch at the size asked for."""

    stage: str
    method: str
    gpus: int
    gpu_seconds: float

    @property
    def hours(self) -> float:
        """With all of its GPUs at work."""
        return self.gpu_seconds / self.gpus / 3600


def measure_run(recipe: AnyRecipe, folders: RunFolders) -> list[Measured]:
    """From the first round of a run that has its distilled sets. Raises UserError where there are none."""
    if not all((folders.part(part).distilled / MANIFEST).exists() for part in recipe.recipes()):
        raise UserError(
            f"no curated run of {recipe.name} in {folders.base} to measure: measure a sample of 32 prompts with "
            f"--measure 32, or first `s2d run {recipe.name} --until curate`"
        )
    plan = make_plans(resolve(with_dtype(recipe, folders)), folders)[0]
    spent = time_spent(folders.base)
    measured = []
    for part in plan.parts:
        for branch in part.branches:
            branch.distilled.require()
            work = spent.get(str(branch.candidates.path.relative_to(folders.base)))
            measured.append(_measured(plan, part, branch, work.gpu_seconds or None if work else None))
    return measured


def measure_sample(recipe: AnyRecipe) -> list[Measured]:
    """From the recipe's prompts, as many as its limit says, on one engine. Starts Ray."""
    recipe = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"min_engines": 1, "max_engines": 1})})
    with tempfile.TemporaryDirectory() as root:
        folders = RunFolders(Path(root) / recipe.name)
        stages = ("generate", "curate")
        resolved = resolve(recipe)
        pipeline.ingest(resolved, folders)
        plan = pipeline.prepare(resolved, folders, stages)[0]
        from s2d_ray.stages.cluster import has_gpus, joined

        with joined(folders.logs):
            for stage in stages:
                pipeline.STAGES[stage](plan)
            gpus = recipe.engine.gpus if has_gpus() else 0
        return [
            _measured(plan, part, branch, _without_start(branch, gpus))
            for part in plan.parts
            for branch in part.branches
        ]


def _without_start(branch: Branch, gpus: int) -> float | None:
    """GPU-seconds of generating; a sample is too short to bear the start of an engine."""
    made = branch.candidates.manifest
    return gpus * made.tokens_now / made.tokens_per_second if gpus and made.tokens_per_second else None


def _measured(plan: Plan, part: PlannedPart, branch: Branch, gpu_seconds: float | None) -> Measured:
    curated = branch.distilled.manifest
    return Measured(
        arm=branch.arm,
        method=_named(f"{part.name} {branch.method_name}".strip(), branch.arm),
        prompts=curated.rows,
        steps=step_tokens(branch.candidates.path) if branch.generates else {},
        rule_calls=step_tokens(branch.distilled.path),
        kept=curated.kept,
        tokens_per_pair=_tokens_per_pair(plan, branch.distilled.path),
        max_examples=branch.max_examples,
        gpu_seconds=gpu_seconds if branch.generates else None,
    )


def _named(method: str, arm: str) -> str:
    return method if arm == "student" else f"{method} (control {arm})"


def _tokens_per_pair(plan: Plan, distilled: Path) -> float:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        local_copy(plan.base.folder, weights=False), trust_remote_code=plan.recipe.trust_remote_code
    )
    pairs = islice(read_rows(distilled / "status=kept", ["messages"]), PAIRS_READ)
    lengths = [len(encode(row["messages"], tokenizer)) for row in pairs]
    return sum(lengths) / len(lengths) if lengths else 0.0


def parameters_of(model: Path) -> int:
    """Parameters in a model folder's weights, from their headers."""
    if isinstance(model, HubPath):
        return model.parameters()
    shapes: dict[str, Sequence[int]] = {}
    for file in local_copy(model).glob("*.safetensors"):
        with safe_open(file, framework="np") as weights:
            shapes |= {name: weights.get_slice(name).get_shape() for name in weights.offset_keys()}
    return sum(prod(shape) for shape in shapes.values())


def estimate(
    recipe: AnyRecipe,
    measured: Sequence[Measured],
    prompts: int,
    params_b: float | None,
    tokens_per_second: float | None,
    teraflops: float,
    gpu_memory_gib: float,
    price_per_gpu_hour: float | None,
) -> list[Table | str]:
    """What to print for `s2d plan`: what was measured, and what that makes of so many prompts in each part.

    Raises UserError where no GPU was measured and no speed is given, or training fits on no number of GPUs.
    """
    own = parameters_of(base_model(recipe).folder)
    parameters = own if params_b is None else params_b * 1e9
    speed = tokens_per_second or measured_speed(measured, own, teraflops) * own / parameters
    found = phases(recipe, measured, prompts, parameters, Gpu(speed, teraflops, gpu_memory_gib))
    of_each = " of each part" if isinstance(recipe, Mixture) else ""
    rounds = f", each of up to {recipe.rounds} rounds" if recipe.rounds > 1 else ""
    return [
        f"measured: {recipe.name}",
        tokens_table(measured),
        *(pairs_line(branch) for branch in measured),
        f"planned: {prompts:,} prompts{of_each}, {parameters / 1e9:.3g} billion parameters, "
        f"{speed:,.0f} tokens/s on a GPU{rounds}",
        phases_table(found, price_per_gpu_hour),
    ]


def measured_speed(measured: Sequence[Measured], parameters: float, teraflops: float) -> float:
    """Tokens per second that one GPU generated with a model of so many parameters.

    Raises UserError where no GPU took part.
    """
    seconds = sum(branch.gpu_seconds or 0.0 for branch in measured)
    if not seconds:
        raise UserError(
            "no GPU took part in what was measured: give --tokens-per-second, what one GPU generates with the model "
            "that you plan for"
        )
    spent = sum((_sum(branch.steps) for branch in measured if branch.gpu_seconds), NO_TOKENS)
    return generation_speed(spent.computed, spent.generated, seconds, parameters, teraflops)


def phases(recipe: AnyRecipe, branches: Sequence[Measured], prompts: int, parameters: float, gpu: Gpu) -> list[Phase]:
    """Each stage of each branch over so many prompts; evaluation, whose prompts do not grow, is left out."""
    engines = recipe.engine.max_engines * max(recipe.engine.gpus, engine_gpus(parameters, gpu))
    found: list[Phase] = []
    for branch in branches:
        for stage, calls in (("generate", _sum(branch.steps)), ("curate", _sum(branch.rule_calls))):
            if calls.calls:
                seconds = generating_seconds(calls.computed, calls.generated, parameters, gpu)
                found.append(Phase(stage, branch.method, engines, prompts / branch.prompts * seconds))
    for arm in dict.fromkeys(branch.arm for branch in branches):
        together = [branch for branch in branches if branch.arm == arm and branch.kept]
        if together:
            found.append(_training(recipe, together, prompts, parameters, gpu))
    return found


def _training(recipe: AnyRecipe, branches: Sequence[Measured], prompts: int, parameters: float, gpu: Gpu) -> Phase:
    """One training on the pairs of one branch, or of one of each part of a mixture."""
    settings = recipe.train
    workers = training_gpus(parameters, settings, gpu)
    if workers is None:
        raise UserError(
            f"training {parameters / 1e9:g} billion parameters with train.zero_stage={settings.zero_stage} does "
            f"not fit a GPU of {gpu.memory_gib:g} GiB: train.zero_stage=3 shares the weights out"
        )
    pairs = [min(round(prompts * b.kept / b.prompts), b.max_examples or sys.maxsize) for b in branches]
    tokens_per_pair = sum(n * b.tokens_per_pair for n, b in zip(pairs, branches, strict=True)) / sum(pairs)
    steps = total_steps(sum(pairs), settings.batch_size, settings.epochs, settings.max_steps)
    tokens = steps * settings.batch_size * tokens_per_pair
    seconds = training_seconds(tokens, parameters, settings.lora is not None, gpu)
    method = branches[0].method if len(branches) == 1 else _named("all parts", branches[0].arm)
    return Phase("train", method, max(settings.max_workers, workers), seconds)


def _sum(steps: Mapping[str, Tokens]) -> Tokens:
    return sum(steps.values(), NO_TOKENS)


def tokens_table(branches: Sequence[Measured]) -> Table:
    """Tokens per prompt and step."""
    table = Table("tokens per prompt", box=None, pad_edge=False)
    for column in ("read", "cached", "generated"):
        table.add_column(column, justify="right")
    for branch in branches:
        for step, tokens in (*branch.steps.items(), *branch.rule_calls.items()):
            counts = (tokens.prompt, tokens.cached, tokens.generated)
            table.add_row(f"{branch.method}: {step}", *(f"{count / branch.prompts:,.1f}" for count in counts))
    return table


def pairs_line(branch: Measured) -> str:
    """What became of a branch's prompts."""
    kept = f"{branch.kept / branch.prompts:.0%} of {branch.prompts:,} prompts kept"
    return f"{branch.method}: {kept}, {branch.tokens_per_pair:.1f} tokens in a training pair"


def phases_table(found: Sequence[Phase], price_per_gpu_hour: float | None) -> Table:
    """GPUs, hours and money by stage and method."""
    table = Table("stage", "method", box=None, pad_edge=False)
    for column in ("GPUs", "GPU-hours", "hours", *(["cost"] if price_per_gpu_hour is not None else [])):
        table.add_column(column, justify="right")

    def row(stage: str, method: str, gpus: str, gpu_seconds: float, hours: float) -> None:
        gpu_hours = gpu_seconds / 3600
        money = [] if price_per_gpu_hour is None else [f"{gpu_hours * price_per_gpu_hour:,.2f}"]
        table.add_row(stage, method, gpus, f"{gpu_hours:,.2f}", f"{hours:,.2f}", *money)

    for phase in found:
        row(phase.stage, phase.method, str(phase.gpus), phase.gpu_seconds, phase.hours)
    row("in all", "", "", sum(phase.gpu_seconds for phase in found), sum(phase.hours for phase in found))
    return table
