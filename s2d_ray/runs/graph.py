"""What every stage makes and from what, known before anything runs.

A stage's inputs hold the fingerprint of the stage before it, so that a change anywhere reaches everything
that was made from it, and nothing else. A recipe is a run of one part; a mixture has several, which meet in
the training. Each further round is planned like the first, on the model that the round before will leave.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from s2d_ray.arms import repeated, target_of
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import (
    BenchmarksManifest,
    CorpusManifest,
    EvaluationManifest,
    GeneralManifest,
    JudgedManifest,
    ModelManifest,
)
from s2d_ray.data.records import LabelledPrompt
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.internalise import Internalise
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe, trainings_of
from s2d_ray.recipes.sections import Train
from s2d_ray.runs.beside import benchmarks, general, judged
from s2d_ray.runs.branches import Branch, plan_branches
from s2d_ray.runs.inputs import evaluation_inputs, model_inputs
from s2d_ray.runs.resolved import ResolvedPart, ResolvedRecipe, base_arms
from s2d_ray.runs.revisions import base_model
from s2d_ray.tasks.corpus import held_out, held_out_digest, ingested
from s2d_ray.tasks.task import Task


@dataclass(frozen=True)
class PlannedPart:
    """One task and method of a run, from its prompts to its report."""

    name: str
    """Empty where the run has no other."""
    recipe: Recipe
    task: Task
    folders: RunFolders
    corpus: Artifact[CorpusManifest]
    branches: Sequence[Branch]
    """The distillation itself, then those to other targets, and the controls."""
    base_arms: Mapping[str, Method]
    """The arms of the base model in evaluation: itself, also few-shot, the teacher and further System 2 methods."""
    evaluation: Artifact[EvaluationManifest]
    validation: Artifact[EvaluationManifest] | None
    """Of the base and the distilled model alone, on prompts that no report is of; None where one round is run."""
    validated: Mapping[str, Method]
    """The arms of the base model there: System 2 too where no prompt has a reference, since its answer is the measure.
    """
    judged: Artifact[JudgedManifest] | None = None
    """None where the recipe asks for no judge."""
    judge_model: Model | None = None
    """That judges."""

    def label(self, stage: str, arm: str = "student") -> str:
        """How its stage is called in front of a person."""
        return _label(" ".join(filter(None, (stage, self.name))), arm)


@dataclass(frozen=True)
class Training:
    """One model, and the branch of each part whose pairs it learns."""

    arm: str
    """In evaluation: that of its branches, or where it repeats their training its name by `arms.repeated`."""
    branches: Mapping[str, Branch]
    """By the part's name, in order of names."""
    model: Artifact[ModelManifest]
    recipe: AnyRecipe
    """The plan's, with this training's own settings: its seed, and whether the trace is taken away."""

    @property
    def label(self) -> str:
        """How it is called in front of a person."""
        return _label("train", self.arm)

    @property
    def made_model(self) -> bool:
        """Whether, once finished, it made a model; not where curation kept nothing."""
        return self.model.manifest.made_model


@dataclass(frozen=True)
class Plan:
    """One round of a recipe in its results folder."""

    round: int
    """From 1."""
    recipe: AnyRecipe
    """Its model is the round's own."""
    folders: RunFolders
    base: Model
    """The model that is prompted, and that is fine-tuned."""
    parts: Sequence[PlannedPart]
    trainings: Sequence[Training]
    """The distilled model, then those on other targets, and the controls; after them the same with further seeds."""
    earlier: Sequence["Plan"]
    """The rounds before."""
    general: Artifact[GeneralManifest] | None = None
    """The model before and after on what was not trained; None where the recipe does not look, as with `benchmarks`."""
    benchmarks: Artifact[BenchmarksManifest] | None = None

    @property
    def part_folders(self) -> dict[str, RunFolders]:
        """Part → its folders."""
        return {part.name: part.folders for part in self.parts}

    @property
    def has_overview(self) -> bool:
        """Whether the run has more reports than one, so that an overview is made of them."""
        return isinstance(self.recipe, Mixture) or self.recipe.rounds > 1

    def artifacts(self, stage: str) -> list[Artifact[Any]]:
        """What a stage makes."""
        branches = [branch for part in self.parts for branch in part.branches]
        made: Mapping[str, list[Artifact[Any]]] = {
            "ingest": [part.corpus for part in self.parts],
            "generate": [b.candidates for b in branches if b.generates],
            "curate": [b.distilled for b in branches],
            "train": [t.model for t in self.trainings],
            "evaluate": [
                *(made for part in self.parts for made in (part.evaluation, part.validation, part.judged) if made),
                *(made for made in (self.general, self.benchmarks) if made),
            ],
            "report": [],
        }
        return made[stage]


class _Prompts(NamedTuple):
    """The prompts of a part, which all rounds share."""

    corpus: Artifact[CorpusManifest]
    test: str
    """Digest of the held-out prompts that the report is of."""
    valid: Sequence[LabelledPrompt]
    """Those that decide about a further round; none where one is run."""


def make_plans(resolved: ResolvedRecipe, folders: RunFolders, anew: bool = False) -> list[Plan]:
    """A plan per round, over the corpus that ingest has left; what else is there is not looked at if `anew`.

    Writes nothing. Raises UserError for what does not exist or cannot be read, before Ray or an engine is started.
    """
    recipe = resolved.recipe
    base = base_model(recipe, None if anew else folders)
    prompts = {
        name: _Prompts(
            ingested(part.recipe, part.task, folders.part(name).prompts),
            held_out_digest(held_out(part.recipe, part.task)),
            held_out(part.recipe, part.task, "valid") if recipe.rounds > 1 else [],
        )
        for name, part in resolved.parts.items()
    }
    plans: list[Plan] = []
    for number in range(1, recipe.rounds + 1):
        plan = _plan(number, resolved, folders.round(number), base, prompts, tuple(plans))
        plans.append(plan)
        model = plan.trainings[0].model
        resolved = resolved.with_settings(
            resolved.recipe.model_copy(update={"model": str(model.path), "model_revision": None})
        )
        # Not there yet: what it will be made from identifies it.
        base = Model(f"round-{number}", model.path, model.fingerprint)
    return plans


def _plan(
    number: int,
    resolved: ResolvedRecipe,
    folders: RunFolders,
    base: Model,
    prompts: Mapping[str, _Prompts],
    earlier: Sequence[Plan],
) -> Plan:
    recipe = resolved.recipe
    branches = {
        name: plan_branches(part, folders.part(name), base, prompts[name].corpus)
        for name, part in sorted(resolved.parts.items())
    }
    student, *others = (dict(zip(branches, own, strict=True)) for own in zip(*branches.values(), strict=True))
    trainings = [
        training
        for repeat in range(1, trainings_of(recipe).seeds + 1)
        for training in (
            plan_training(recipe, folders, base, student, number=repeat),
            *(plan_training(recipe, folders, base, other, student, repeat) for other in others),
        )
    ]
    # Rounds are compared by one judge: none is judged by what an earlier one made of it.
    judge = earlier[0].base if earlier else base
    parts = [
        _plan_part(part, folders.part(name), base, judge, trainings, prompts[name], branches[name], name)
        for name, part in resolved.parts.items()
    ]
    beside = general(recipe, base, trainings[0], folders), benchmarks(recipe, base, trainings[0], folders)
    return Plan(number, recipe, folders, base, parts, trainings, earlier, *beside)


def _plan_part(
    part: ResolvedPart,
    folders: RunFolders,
    base: Model,
    judge: Model,
    trainings: Sequence[Training],
    prompts: _Prompts,
    branches: Sequence[Branch],
    name: str,
) -> PlannedPart:
    recipe, methods = part.recipe, base_arms(part.recipe)
    models = {training.arm: training.model.fingerprint for training in trainings}
    inputs = evaluation_inputs(recipe, base, methods, models, prompts.test)
    evaluation = Artifact(folders.evaluation, inputs, EvaluationManifest)
    validation = None
    validated = ["base"] if any(item.references for item in prompts.valid) else ["base", "teacher"]
    if prompts.valid:
        student, asked = {"student": models["student"]}, {arm: methods[arm] for arm in validated}
        inputs = evaluation_inputs(recipe, base, asked, student, held_out_digest(prompts.valid))
        validation = Artifact(folders.validation, inputs, EvaluationManifest)
    return PlannedPart(
        name,
        recipe,
        part.task,
        folders,
        prompts.corpus,
        branches,
        part.base_arms,
        evaluation,
        validation,
        {arm: part.base_arms[arm] for arm in validated},
        *judged(recipe, judge, evaluation, folders),
    )


def plan_training(
    recipe: AnyRecipe,
    folders: RunFolders,
    base: Model,
    branches: Mapping[str, Branch],
    student: Mapping[str, Branch] | None = None,
    number: int = 1,
) -> Training:
    """The training of that number, from 1, on the pairs of these branches.

    For another one than the `student` itself, in as many steps as those of the student take.
    """
    [arm] = {branch.arm for branch in branches.values()}
    own = (folders if arm == "student" else folders.control(arm)).repeat(number)
    recipe = recipe.model_copy(update={"train": _settings_of(arm, recipe.train), "seed": recipe.seed + number - 1})
    distilled = {name: branch.distilled.fingerprint for name, branch in branches.items()}
    inputs = model_inputs(recipe, base, distilled)
    if isinstance(recipe, Mixture):
        inputs["max_examples"] = {name: branch.max_examples for name, branch in branches.items()}
    if student is not None and recipe.train.steps is None:
        # Its pairs decide how many steps the others take.
        inputs["steps_of"] = {name: branch.distilled.fingerprint for name, branch in student.items()}
    return Training(repeated(arm, number), branches, Artifact(own.model, inputs, ModelManifest), recipe)


def _settings_of(arm: str, train: Train) -> Train:
    """A student on another target has its trace taken away only where that is its target."""
    target = target_of(arm)
    if target is None:
        return train
    internalise = Internalise() if target == "internalised" else None
    return train.model_copy(update={"internalise": internalise})


def _label(stage: str, arm: str) -> str:
    return stage if arm == "student" else f"{stage} ({arm})"
