"""READ FIRST: the stages of a distillation, in order.

    unlabelled prompts → System 2 (Ray Data over engines) → curation without labels → fine-tuning of the same
    model on (prompt, answer) → every arm on held-out prompts → report

Each stage leaves a folder that the next one reads; a finished folder is reused, an unfinished one resumed.
The controls of the paper run through the same stages as branches of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2d_ray.artifacts import Artifact, RunFolders
from s2d_ray.config import Named, Recipe
from s2d_ray.curation.catalogue import load_rules
from s2d_ray.evaluation.report import write_report
from s2d_ray.imports import import_object
from s2d_ray.models import Model, resolve_model
from s2d_ray.system2.catalogue import load_method
from s2d_ray.tasks.catalogue import load_task

SYSTEM1 = Named(name="direct")
UNFILTERED = (Named(name="unfiltered"),)


@dataclass(frozen=True)
class Branch:
    """One way from the prompts to a trained model: whose answers, and which rules choose among them."""

    arm: str
    """The arm that its model becomes in evaluation."""
    folders: RunFolders
    method: Named
    rules: Sequence[Named]
    candidates_of: RunFolders
    """Whose candidates it curates: its own, or those of the main branch."""

    def label(self, stage: str) -> str:
        return stage if self.arm == "distilled" else f"{stage} ({self.arm})"


@dataclass
class Run:
    """One recipe in one results folder."""

    recipe: Recipe
    folders: RunFolders
    overwrite: bool = False
    """Start over the stages that are run, whatever their folders hold."""

    @property
    def branches(self) -> list[Branch]:
        """The distillation itself, then the controls."""
        recipe, folders = self.recipe, self.folders
        main = Branch("distilled", folders, recipe.method, recipe.curate.rules, folders)
        if not recipe.evaluate.controls:
            return [main]
        votes, raw = folders.control("distilled_system1"), folders.control("distilled_unfiltered")
        return [
            main,
            Branch("distilled_system1", votes, SYSTEM1, recipe.curate.rules, votes),
            Branch("distilled_unfiltered", raw, recipe.method, UNFILTERED, folders),
        ]

    def base_model(self) -> Model:
        """The model that is prompted, and that is fine-tuned."""
        return resolve_model(self.recipe.model, self.recipe.model_revision)


def check(recipe: Recipe) -> None:
    """Everything that can be checked without a model or an engine. Raises UserError."""
    load_method(recipe.method)
    load_rules(recipe.curate.rules)
    if recipe.engine.kind == "scripted":
        import_object(recipe.engine.script)
    next(load_task(recipe.task).items("train", recipe.seed), None)


def generate(run: Run) -> None:
    """System 2 answers the unlabelled prompts; for a control, System 1 does."""
    from s2d_ray.stages import generate as stage

    corpus = stage.write_prompts(run.recipe, run.folders.prompts, run.overwrite)
    for branch in run.branches:
        if branch.candidates_of == branch.folders:
            stage.generate(
                run.recipe,
                branch.method,
                run.base_model(),
                corpus,
                branch.folders.candidates,
                branch.label("generate"),
                run.overwrite,
            )


def curate(run: Run) -> None:
    """Each prompt's candidates become a target or a rejection, without labels."""
    from s2d_ray.stages import curate as stage

    for branch in run.branches:
        candidates = Artifact.existing(branch.candidates_of.candidates)
        stage.curate(
            run.recipe,
            branch.rules,
            run.base_model(),
            candidates,
            branch.folders.distilled,
            branch.label("curate"),
            run.overwrite,
        )


def train(run: Run) -> None:
    """The base model learns the targets."""
    from s2d_ray.stages import train as stage

    for branch in run.branches:
        distilled = Artifact.existing(branch.folders.distilled)
        stage.train(run.recipe, run.base_model(), distilled, branch.folders.model, branch.label("train"), run.overwrite)


def evaluate(run: Run) -> None:
    """Every arm answers the held-out prompts."""
    from s2d_ray.stages import evaluate as stage

    models: list[tuple[Model, Mapping[str, Named]]] = [
        (run.base_model(), {"system1": SYSTEM1, "system2": run.recipe.method})
    ]
    for branch in run.branches:
        Artifact.existing(branch.folders.model)
        models.append((Model.local(branch.arm, branch.folders.model), {branch.arm: SYSTEM1}))
    stage.evaluate(run.recipe, models, run.folders.evaluation, run.overwrite)


def report(run: Run) -> None:
    """What came of it, for people and for programs."""
    Artifact.existing(run.folders.evaluation)
    write_report(run.recipe, load_task(run.recipe.task), run.folders)


STAGES: Mapping[str, Callable[[Run], Any]] = {
    "generate": generate,
    "curate": curate,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
"""In the order in which they run."""
