"""What every stage makes and from what, known before anything runs.

A stage's inputs hold the fingerprint of the stage before it, so that a change anywhere reaches everything
that was made from it, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2d_ray.artifacts import Artifact, Json, RunFolders
from s2d_ray.config import Named, Recipe
from s2d_ray.curation.catalogue import load_rules
from s2d_ray.evaluation.arms import further_arm
from s2d_ray.models import Model, resolve_model
from s2d_ray.tasks.corpus import corpus_inputs, held_out, held_out_digest, task_inputs, write_corpus

SYSTEM1 = Named(name="direct")
UNFILTERED = (Named(name="unfiltered"),)
PLACEMENT = {"workers", "micro_batch_size", "checkpoint_steps", "max_failures"}
"""Training settings that change where and how safely it runs, not what comes out."""


@dataclass(frozen=True)
class Branch:
    """One way from the prompts to a trained model: whose answers, and which rules choose among them."""

    arm: str
    """The arm that its model becomes in evaluation."""
    method: Named
    rules: Sequence[Named]
    candidates: Artifact
    distilled: Artifact
    model: Artifact
    generates: bool = True
    """False where it curates the candidates of another branch."""

    @property
    def trained(self) -> bool:
        """Whether its finished training made a model; not where curation kept nothing."""
        return "skipped" not in self.model.manifest

    def label(self, stage: str) -> str:
        """How its stage is called in front of a person."""
        return stage if self.arm == "distilled" else f"{stage} ({self.arm})"


@dataclass(frozen=True)
class Plan:
    """One recipe in one results folder."""

    recipe: Recipe
    folders: RunFolders
    base: Model
    """The model that is prompted, and that is fine-tuned."""
    corpus: Artifact
    branches: Sequence[Branch]
    """The distillation itself, then the controls."""
    evaluation: Artifact

    def artifacts(self, stage: str) -> list[Artifact]:
        """What a stage makes."""
        return {
            "generate": [b.candidates for b in self.branches if b.generates],
            "curate": [b.distilled for b in self.branches],
            "train": [b.model for b in self.branches],
            "evaluate": [self.evaluation],
            "report": [],
        }[stage]


@dataclass(frozen=True)
class Distilled:
    """The model that an earlier run left in a results folder."""

    model: Model
    examples: int
    """Pairs that it was trained on."""
    changes: str
    """How the recipe of that run differs from the one at hand; empty where it does not."""


def find_distilled(recipe: Recipe, folders: RunFolders, base: Model) -> Distilled | None:
    """The finished model in a recipe's results folder, if there is one. Writes nothing, and reads no prompts."""
    prompts = Artifact(folders.prompts, {})
    if not prompts.finished or not Artifact(folders.model, {}).finished:
        return None
    corpus = Artifact(folders.prompts, corpus_inputs(recipe, prompts.manifest["digest"]))
    main, *_ = _branches(recipe, folders, base, corpus)
    if not main.trained:
        return None
    # A stage's inputs hold the fingerprint of the one before: the first that differs is where they part.
    stages = [stage for stage in (corpus, main.candidates, main.distilled, main.model) if stage.finished]
    changes = next(filter(None, (stage.changes for stage in stages)), "")
    return Distilled(Model.local(f"{base.name}, distilled", folders.model), main.model.manifest["examples"], changes)


def make_plan(recipe: Recipe, folders: RunFolders, overwrite: bool = False) -> Plan:
    """Resolve and check all that a recipe names, and write its corpus.

    Raises UserError for what does not exist or cannot be read, before Ray or an engine is started.
    """
    base = resolve_model(recipe.model, recipe.model_revision)
    corpus = write_corpus(recipe, folders.prompts, overwrite)
    branches = _branches(recipe, folders, base, corpus)
    evaluation = Artifact(folders.evaluation, _evaluation_inputs(recipe, base, branches))
    return Plan(recipe, folders, base, corpus, branches, evaluation)


def base_arms(recipe: Recipe) -> dict[str, Named]:
    """The arms of the base model in evaluation, and the method of each."""
    options = recipe.method.options | recipe.evaluate.method
    further = {further_arm(method.name): method for method in recipe.evaluate.also}
    return {"system1": SYSTEM1, "system2": Named(name=recipe.method.name, **options), **further}


def candidates_artifact(recipe: Recipe, method: Named, base: Model, corpus: Artifact, folder: Path) -> Artifact:
    """The answers of a method to the corpus."""
    settings = recipe.generate
    return Artifact(
        folder,
        {
            "model": {"name": recipe.model, "identity": base.identity},
            "method": method.model_dump(mode="json"),
            "samples": settings.samples,
            "sampling": settings.sampling.model_dump(mode="json"),
            "seed": recipe.seed,
            "corpus": corpus.manifest["digest"],
            **_engine_inputs(recipe),
        },
    )


def _branches(recipe: Recipe, folders: RunFolders, base: Model, corpus: Artifact) -> list[Branch]:
    rules = recipe.curate.rules

    def branch(arm: str, own: RunFolders, method: Named, rules: Sequence[Named], candidates: Artifact) -> Branch:
        distilled = Artifact(own.distilled, _distilled_inputs(recipe, rules, candidates))
        model = Artifact(own.model, _model_inputs(recipe, base, distilled))
        return Branch(arm, method, rules, candidates, distilled, model, own.candidates == candidates.path)

    answers = candidates_artifact(recipe, recipe.method, base, corpus, folders.candidates)
    main = branch("distilled", folders, recipe.method, rules, answers)
    if not recipe.evaluate.controls:
        return [main]
    votes, raw = folders.control("distilled_system1"), folders.control("distilled_unfiltered")
    own_answers = candidates_artifact(recipe, SYSTEM1, base, corpus, votes.candidates)
    return [
        main,
        branch("distilled_system1", votes, SYSTEM1, rules, own_answers),
        branch("distilled_unfiltered", raw, recipe.method, UNFILTERED, answers),
    ]


def _engine_inputs(recipe: Recipe) -> Json:
    engine = recipe.engine
    return {
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "script": engine.script if engine.kind == "scripted" else None,
    }


def _distilled_inputs(recipe: Recipe, sections: Sequence[Named], candidates: Artifact) -> Json:
    named = zip(sections, load_rules(sections), strict=True)
    return {
        "candidates": candidates.fingerprint,
        "rules": [{"name": section.name, **rule.model_dump(mode="json")} for section, rule in named],
        "task": task_inputs(recipe),
    }


def _model_inputs(recipe: Recipe, base: Model, distilled: Artifact) -> Json:
    return {
        "model": {"name": recipe.model, "identity": base.identity},
        "distilled": distilled.fingerprint,
        "train": recipe.train.model_dump(mode="json", exclude=PLACEMENT),
        "seed": recipe.seed,
    }


def _evaluation_inputs(recipe: Recipe, base: Model, branches: Sequence[Branch]) -> Json:
    settings = recipe.evaluate
    return {
        "base": base.identity,
        "methods": {arm: method.model_dump(mode="json") for arm, method in base_arms(recipe).items()},
        "models": {branch.arm: branch.model.fingerprint for branch in branches},
        "samples": settings.samples,
        "sampling": settings.sampling.model_dump(mode="json"),
        "seed": recipe.seed,
        "prompts": held_out_digest(held_out(recipe)),
        **_engine_inputs(recipe),
    }
