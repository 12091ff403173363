"""The model that a run has left: whether there is one, and whether it is that of the recipe at hand."""

from dataclasses import dataclass
from typing import Any

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CorpusManifest, ModelManifest
from s2d_ray.models import Model
from s2d_ray.runs.branches import plan_branches
from s2d_ray.runs.graph import plan_training
from s2d_ray.runs.resolved import ResolvedPart
from s2d_ray.tasks.corpus import corpus_inputs


@dataclass(frozen=True)
class Distilled:
    """The model that an earlier run left in a results folder."""

    model: Model
    examples: int
    """Pairs that it was trained on."""
    changes: str
    """How the recipe of that run differs from the one at hand; empty where it does not."""


def find_distilled(part: ResolvedPart, folders: RunFolders, base: Model) -> Distilled | None:
    """The finished model in a recipe's results folder, if there is one. Writes nothing, and reads no prompts."""
    prompts = Artifact(folders.prompts, {}, CorpusManifest)
    if not prompts.finished or not Artifact(folders.model, {}, ModelManifest).finished:
        return None
    corpus = Artifact(folders.prompts, corpus_inputs(part.recipe, part.task, prompts.manifest.digest), CorpusManifest)
    main, *_ = plan_branches(part, folders, base, corpus)
    training = plan_training(part.recipe, folders, base, {"": main})
    if not training.made_model:
        return None
    # A stage's inputs hold the fingerprint of the one before: the first that differs is where they part.
    stages: list[Artifact[Any]] = [
        stage for stage in (corpus, main.candidates, main.distilled, training.model) if stage.finished
    ]
    changes = next(filter(None, (stage.changes for stage in stages)), "")
    examples = training.model.manifest.examples
    return Distilled(Model.local(f"{base.name}, distilled", folders.model), examples, changes)
