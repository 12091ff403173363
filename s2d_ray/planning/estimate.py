"""What a recipe would take at another size: tokens per prompt are measured, the rest is arithmetic on them.

Measured on a finished run, or on a sample of prompts that goes through the same stages into a temporary folder.
"""

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.table import Table

from s2d_ray.data.artifacts import MANIFEST
from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.lease import time_spent
from s2d_ray.errors import UserError
from s2d_ray.planning.advice import advice, said
from s2d_ray.planning.fit import changed, stages_of
from s2d_ray.planning.phases import Measured, measured_speed, named, phases
from s2d_ray.planning.shapes import Shape, shape_of
from s2d_ray.planning.sizing import Gpu, Node
from s2d_ray.planning.tables import node_line, notes, pairs_line, phases_table, stages_table, tokens_table
from s2d_ray.recipes.recipe import AnyRecipe, Mixture
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.report.ledger import step_tokens
from s2d_ray.runs import pipeline
from s2d_ray.runs.branches import Branch
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.graph import Plan, PlannedPart, make_plans
from s2d_ray.runs.resolved import resolve
from s2d_ray.training.encoding import encode

PAIRS_READ = 500
"""Curated pairs whose length is measured."""


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
        from s2d_ray.stages.cluster import joined
        from s2d_ray.stages.placement import engine_device

        with joined(folders.logs):
            for stage in stages:
                pipeline.STAGES[stage](plan)
            gpus = recipe.engine.gpus if engine_device(recipe.engine) == "gpu" else 0
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
        method=named(f"{part.name} {branch.method_name}".strip(), branch.arm),
        prompts=curated.rows,
        steps=step_tokens(branch.candidates.path) if branch.generates else {},
        rule_calls=step_tokens(branch.distilled.path),
        kept=curated.kept,
        tokens_per_pair=_tokens_per_pair(plan, branch.distilled.path),
        max_examples=branch.max_examples,
        gpu_seconds=gpu_seconds if branch.generates else None,
    )


def _tokens_per_pair(plan: Plan, distilled: Path) -> float:
    recipe = plan.recipe
    renderer = Renderer.load(local_copy(plan.base.folder, weights=False), recipe.trust_remote_code, recipe.chat)
    pairs = islice(read_rows(distilled / "status=kept", ["messages"]), PAIRS_READ)
    lengths = [len(encode(row["messages"], renderer)) for row in pairs]
    return sum(lengths) / len(lengths) if lengths else 0.0


def fitting(recipe: AnyRecipe, shape: Shape, teraflops: float, node: Node) -> tuple[AnyRecipe, list[Table | str]]:
    """Whether the recipe fits nodes like this one: what to print, and the recipe with what it takes to fit."""
    found = advice(recipe, shape, node)
    better = changed(recipe, found.changes)
    shown: list[Table | str] = [
        f"{recipe.name}, {shape.parameters / 1e9:.3g} billion parameters, on {node_line(node)}",
        stages_table(stages_of(recipe, shape, node)),
        *found.lines,
    ]
    if found.changes:
        shown += [f"with {said(found.changes)}:", stages_table(stages_of(better, shape, node))]
    return better, [*shown, *notes(better, shape, teraflops, node)]


def estimate(
    recipe: AnyRecipe,
    measured: Sequence[Measured],
    prompts: int,
    shape: Shape,
    gpu: Gpu,
    node: Node,
    price_per_gpu_hour: float | None,
) -> list[Table | str]:
    """What to print: what was measured, and what that makes of so many prompts in each part."""
    found = phases(recipe, measured, prompts, shape, gpu, node)
    of_each = " of each part" if isinstance(recipe, Mixture) else ""
    rounds = f", each of up to {recipe.rounds} rounds" if recipe.rounds > 1 else ""
    return [
        f"measured: {recipe.name}",
        tokens_table(measured),
        *(pairs_line(branch) for branch in measured),
        f"planned: {prompts:,} prompts{of_each}, {shape.parameters / 1e9:.3g} billion parameters, "
        f"{gpu.tokens_per_second:,.0f} tokens/s on a GPU{rounds}",
        phases_table(found, price_per_gpu_hour),
    ]


def speed_for(recipe: AnyRecipe, measured: Sequence[Measured], shape: Shape, teraflops: float) -> float:
    """Tokens that one GPU generates a second: what one did with the recipe's model, by the number of parameters."""
    own = shape_of(recipe, None).parameters
    return measured_speed(measured, own, teraflops) * own / shape.parameters
