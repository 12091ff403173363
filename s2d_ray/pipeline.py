"""READ FIRST: the stages of a distillation, in order.

    unlabelled prompts → System 2 (Ray Data over engines) → curation without labels → fine-tuning of the same
    model on (prompt, answer) → every arm on held-out prompts → report

Each stage leaves a folder that the next one reads; a finished folder is reused, an unfinished one resumed.
The controls of the paper run through the same stages as branches of their own (see `plan.py`).
"""

from collections.abc import Callable, Mapping, Sequence

from s2d_ray.artifacts import RunFolders
from s2d_ray.config import Named, Recipe
from s2d_ray.curation.catalogue import load_rules
from s2d_ray.evaluation.report import write_report
from s2d_ray.imports import import_object
from s2d_ray.models import Model
from s2d_ray.plan import SYSTEM1, Plan, base_arms, make_plan
from s2d_ray.system2.catalogue import load_method
from s2d_ray.tasks.catalogue import load_task


def generate(plan: Plan) -> None:
    """System 2 answers the unlabelled prompts; for a control, System 1 does."""
    from s2d_ray.stages.generate import generate as run

    for branch in plan.branches:
        if branch.generates:
            run(plan.recipe, branch.method, plan.base, plan.corpus, branch.candidates, branch.label("generate"))


def curate(plan: Plan) -> None:
    """Each prompt's candidates become a target or a rejection, without labels."""
    from s2d_ray.stages.curate import curate as run

    for branch in plan.branches:
        run(plan.recipe, branch.rules, plan.base, branch.candidates, branch.distilled, branch.label("curate"))


def train(plan: Plan) -> None:
    """The base model learns the targets, where there are any."""
    from s2d_ray.stages.train import train as run

    for branch in plan.branches:
        run(plan.recipe, plan.base, branch.distilled, branch.model, branch.label("train"))


def evaluate(plan: Plan) -> None:
    """Every arm answers the held-out prompts."""
    from s2d_ray.stages.evaluate import evaluate as run

    models: list[tuple[Model, Mapping[str, Named]]] = [(plan.base, base_arms(plan.recipe))]
    for branch in plan.branches:
        if branch.trained:
            models.append((Model.local(branch.arm, branch.model.path), {branch.arm: SYSTEM1}))
    run(plan.recipe, models, plan.evaluation)


def report(plan: Plan) -> None:
    """What came of it, for people and for programs."""
    write_report(plan.recipe, load_task(plan.recipe.task), plan.folders)


STAGES: Mapping[str, Callable[[Plan], None]] = {
    "generate": generate,
    "curate": curate,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
"""In the order in which they run."""


def check(recipe: Recipe) -> None:
    """All that a recipe names, without writing anything or looking at the model. Raises UserError."""
    for method in (recipe.method, *base_arms(recipe).values()):
        load_method(method)
    load_rules(recipe.curate.rules)
    if recipe.engine.kind == "scripted":
        import_object(recipe.engine.script)
    next(load_task(recipe.task).items("train", recipe.seed), None)


def prepare(recipe: Recipe, folders: RunFolders, stages: Sequence[str], overwrite: bool = False) -> Plan:
    """The plan of a run, after all that can be checked without Ray or an engine. Raises UserError.

    The folders of `stages` are made ready: results of another recipe are refused, or removed if `overwrite`.
    """
    check(recipe)
    names = list(STAGES)
    plan = make_plan(recipe, folders, overwrite and stages[0] == names[0])
    for earlier in names[: names.index(stages[0])]:
        for artifact in plan.artifacts(earlier):
            artifact.require()
    for stage in stages:
        for artifact in plan.artifacts(stage):
            artifact.open(overwrite)
    return plan
