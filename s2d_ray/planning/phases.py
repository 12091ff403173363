"""Time of each stage at another size: what the prompts of a run took, times the prompts to come."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2d_ray.arms import target_of
from s2d_ray.errors import UserError
from s2d_ray.planning.network import training_step
from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import Gpu, Node, generating_seconds, generation_speed
from s2d_ray.recipes.recipe import AnyRecipe, trainings_of
from s2d_ray.report.ledger import Tokens
from s2d_ray.training.schedule import total_steps

NO_TOKENS = Tokens(0, 0, 0, 0)


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
    network_share: float = 0.0
    """Of a training's time, from 0 to 1."""

    @property
    def hours(self) -> float:
        """With all of its GPUs at work."""
        return self.gpu_seconds / self.gpus / 3600


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


def phases(
    recipe: AnyRecipe, branches: Sequence[Measured], prompts: int, shape: Shape, gpu: Gpu, node: Node
) -> list[Phase]:
    """Each stage of each branch over so many prompts; evaluation, whose prompts do not grow, is left out."""
    engines = recipe.engine.max_engines * recipe.engine.gpus
    found: list[Phase] = []
    for branch in branches:
        for stage, calls in (("generate", _sum(branch.steps)), ("curate", _sum(branch.rule_calls))):
            if calls.calls:
                seconds = generating_seconds(calls.computed, calls.generated, shape.parameters, gpu)
                found.append(Phase(stage, branch.method, engines, prompts / branch.prompts * seconds))
    steps = recipe.train.steps
    # The distilled model comes first, and the others take as many steps.
    for arm in dict.fromkeys(branch.arm for branch in branches):
        together = [branch for branch in branches if branch.arm == arm and branch.kept]
        if together:
            pairs = [min(round(prompts * b.kept / b.prompts), b.max_examples or sys.maxsize) for b in together]
            own = steps or total_steps(sum(pairs), recipe.train.batch_size, recipe.train.epochs)
            steps = own if arm == "student" else steps
            found.append(_training(recipe, together, pairs, own, shape, gpu, node))
    return found


def _training(
    recipe: AnyRecipe,
    branches: Sequence[Measured],
    pairs: Sequence[int],
    steps: int,
    shape: Shape,
    gpu: Gpu,
    node: Node,
) -> Phase:
    """The trainings on so many pairs of one branch, or of one of each part of a mixture."""
    settings = recipe.train
    tokens_per_pair = sum(n * b.tokens_per_pair for n, b in zip(pairs, branches, strict=True)) / sum(pairs)
    step = training_step(shape, settings, tokens_per_pair, gpu.teraflops, node)
    method = branches[0].method if len(branches) == 1 else named("all parts", branches[0].arm)
    workers = settings.max_workers
    seeds = trainings_of(recipe).seeds
    return Phase("train", method, workers, seeds * workers * steps * step.seconds, step.network_share)


def named(method: str, arm: str) -> str:
    """A method of the distillation itself, of one to another target, or of one of the controls."""
    if target := target_of(arm):
        return f"{method} (target {target})"
    return method if arm == "student" else f"{method} (control {arm})"


def _sum(steps: Mapping[str, Tokens]) -> Tokens:
    return sum(steps.values(), NO_TOKENS)
