"""What evaluation makes beside the arms' answers, and from what: the general set, benchmarks, a judge's verdicts."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from s2d_ray.data.artifacts import Artifact, Json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import BenchmarksManifest, EvaluationManifest, GeneralManifest, JudgedManifest
from s2d_ray.data.records import content_id
from s2d_ray.errors import UserError
from s2d_ray.models import Model, resolve_model
from s2d_ray.recipes.recipe import AnyRecipe, Recipe
from s2d_ray.runs.inputs import engine_inputs
from s2d_ray.tasks.general import general_items

if TYPE_CHECKING:
    from s2d_ray.runs.graph import Training


def general(
    recipe: AnyRecipe, base: Model, student: "Training", folders: RunFolders
) -> Artifact[GeneralManifest] | None:
    """The general set on the model before and after; None where the recipe does not look."""
    settings = recipe.evaluate.general
    if settings is None:
        return None
    inputs = {
        **_before_and_after(base, student),
        "items": content_id(*(text for item in general_items(settings.items) for text in item)),
        "max_tokens": settings.max_tokens,
        **engine_inputs(recipe),
    }
    return Artifact(folders.general, inputs, GeneralManifest)


def benchmarks(
    recipe: AnyRecipe, base: Model, student: "Training", folders: RunFolders
) -> Artifact[BenchmarksManifest] | None:
    """Tasks of lm-eval on the model before and after; None where the recipe names none."""
    settings = recipe.evaluate
    if not settings.benchmarks:
        return None
    inputs = {
        **_before_and_after(base, student),
        "benchmarks": {name: _content(Path(name)) for name in settings.benchmarks},
        "limit": settings.benchmark_limit,
        "seed": recipe.seed,
        "dtype": recipe.engine.dtype,
        "max_model_len": recipe.engine.max_model_len,
    }
    return Artifact(folders.benchmarks, inputs, BenchmarksManifest)


def judged(
    recipe: Recipe, base: Model, evaluation: Artifact[EvaluationManifest], folders: RunFolders
) -> tuple[Artifact[JudgedManifest], Model] | tuple[None, None]:
    """A judge's verdicts on the answers of `evaluation`, and its model; neither where the recipe asks for no judge.

    Raises UserError where its model is none.
    """
    judge = recipe.evaluate.judge
    if judge is None:
        return None, None
    model = base if judge.model == "base" else resolve_model(judge.model, None, recipe.trust_remote_code)
    drawn = {} if recipe.evaluate.samples > 1 else {"again": recipe.generate.sampling.model_dump(mode="json")}
    inputs = {
        "evaluation": evaluation.fingerprint,
        "model": model.identity,
        **judge.model_dump(mode="json", include={"method", "sampling"}),
        "seed": recipe.seed,
        **drawn,
    }
    return Artifact(folders.judged, inputs, JudgedManifest), model


def check_benchmarks(names: Sequence[str]) -> None:
    """Raises UserError where tasks of lm-eval cannot be run here."""
    if names and find_spec("lm_eval") is None:
        raise UserError("evaluate.benchmarks needs the package lm-eval: pip install 'lm-eval[hf]', on every machine")
    for name in names:
        if name.endswith(".yaml") and not Path(name).is_file():
            raise UserError(f"evaluate.benchmarks: no file {name}")


def _content(path: Path) -> str:
    """Of a task of one's own; empty for lm-eval's, and where the file is gone since it was evaluated."""
    return content_id(path.read_text()) if path.suffix == ".yaml" and path.is_file() else ""


def _before_and_after(base: Model, student: "Training") -> Json:
    return {"base": base.identity, "student": student.model.fingerprint}
