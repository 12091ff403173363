"""The ways from a part's prompts to training pairs: the distillation itself, other targets, and the controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2d_ray.arms import target_arm
from s2d_ray.curation.registry import TARGETS
from s2d_ray.curation.rule import Rule
from s2d_ray.curation.unfiltered import Unfiltered
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CandidatesManifest, CorpusManifest, DistilledManifest
from s2d_ray.methods.direct import direct
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import FurtherTarget
from s2d_ray.recipes.strict import Named
from s2d_ray.runs.inputs import candidates_inputs, distilled_inputs
from s2d_ray.runs.resolved import SYSTEM1, ResolvedPart
from s2d_ray.tasks.corpus import task_inputs

UNFILTERED = Named(name="unfiltered")


@dataclass(frozen=True)
class Branch:
    """One way from a part's prompts to training pairs: whose answers, and which rules choose among them."""

    arm: str
    """What the model that learns these pairs is in evaluation: `student`, one on another target, or a control."""
    method: Method
    rules: Sequence[Rule]
    candidates: Artifact[CandidatesManifest]
    distilled: Artifact[DistilledManifest]
    generates: bool
    """False where it curates the candidates of another branch."""
    max_examples: int | None
    """Pairs that are trained on at most."""

    @property
    def method_name(self) -> str:
        """Of the method, as the recipe names it."""
        return str(self.candidates.inputs["method"]["name"])


def candidates_artifact(
    recipe: Recipe, method: Named, base: Model, corpus: Artifact[CorpusManifest], folder: Path
) -> Artifact[CandidatesManifest]:
    """The answers of a method to the corpus."""
    return Artifact(folder, candidates_inputs(recipe, method, base, corpus.manifest.digest), CandidatesManifest)


def plan_branches(
    part: ResolvedPart, folders: RunFolders, base: Model, corpus: Artifact[CorpusManifest]
) -> list[Branch]:
    recipe = part.recipe

    def branch(
        arm: str,
        own: RunFolders,
        method: Method,
        rules: Sequence[Rule],
        sections: Sequence[Named],
        candidates: Artifact[CandidatesManifest],
        target: FurtherTarget = recipe.curate.target,
    ) -> Branch:
        names = [*(section.name for section in sections), *(rule.name for rule in TARGETS[target])]
        rules = [*rules, *TARGETS[target]]
        inputs = distilled_inputs(names, rules, task_inputs(recipe, part.task), candidates.fingerprint)
        distilled = Artifact(own.distilled, inputs, DistilledManifest)
        generates = own.candidates == candidates.path
        return Branch(arm, method, rules, candidates, distilled, generates, recipe.train.max_examples)

    rules = part.rules, recipe.curate.rules
    answers = candidates_artifact(recipe, recipe.method, base, corpus, folders.candidates)
    branches = [branch("student", folders, part.method, *rules, answers)]
    for target in recipe.evaluate.targets:
        arm = target_arm(target)
        branches.append(branch(arm, folders.control(arm), part.method, *rules, answers, target))
    if not recipe.evaluate.controls:
        return branches
    votes, raw = folders.control("student_of_base"), folders.control("student_uncurated")
    own_answers = candidates_artifact(recipe, SYSTEM1, base, corpus, votes.candidates)
    return [
        *branches,
        branch("student_of_base", votes, direct, *rules, own_answers),
        branch("student_uncurated", raw, part.method, [Unfiltered()], [UNFILTERED], answers),
    ]
