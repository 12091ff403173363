"""What a report says beside the arms' scores: what was lost elsewhere, and what a judge made of the answers."""

from collections.abc import Mapping, Sequence

from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import BenchmarksManifest, GeneralManifest, JudgedManifest
from s2d_ray.data.records import Row
from s2d_ray.evaluation.benchmarks import Benchmark, benchmarks, lost_on
from s2d_ray.evaluation.general import General, lost, measure
from s2d_ray.evaluation.judging import Judged, Judgements, doubts, judged, judgements
from s2d_ray.evaluation.metrics import ALL, ArmScores
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.account import manifest


def general_of(recipe: Recipe, folders: RunFolders) -> General | None:
    """The model before and after on the general set; None where that was not measured, or nothing was trained."""
    if recipe.evaluate.general is None or not folders.general.exists():
        return None
    made = manifest(folders.general, GeneralManifest)
    return measure(list(read_rows(folders.general)), made.max_tokens, made.known)


def benchmarks_of(recipe: Recipe, folders: RunFolders) -> tuple[Benchmark, ...]:
    """The model before and after on tasks of lm-eval; none where the recipe names none, or nothing was trained."""
    if not recipe.evaluate.benchmarks or not folders.benchmarks.exists():
        return ()
    return benchmarks(manifest(folders.benchmarks, BenchmarksManifest).results)


def lost_of(recipe: Recipe, general: General | None, found: Sequence[Benchmark]) -> tuple[str, ...]:
    """A clause for each thing that the distilled model lost, which the verdict takes into account."""
    return (*lost(general, recipe.evaluate.general), *lost_on(found, recipe.evaluate.margin))


def judge_verdicts(recipe: Recipe, folders: RunFolders) -> list[Row]:
    """Rows of schema `JUDGEMENTS`; none where the run had no judge."""
    if recipe.evaluate.judge is None or not folders.judged.exists():
        return []
    manifest(folders.judged, JudgedManifest)  # It has finished, or that is said.
    return list(read_rows(folders.judged))


def judged_of(recipe: Recipe, rows: Sequence[Row]) -> Judged | None:
    """What comes of the judge's verdicts."""
    judge = recipe.evaluate.judge
    return judged(rows, judge.method.name, judge.model) if judge and rows else None


def judge_decides(arms: Mapping[str, ArmScores], rows: Sequence[Row]) -> Judgements | None:
    """The judge's verdicts where they decide what is as good as System 2; None where references do."""
    return judgements(rows) if arms["base"].subsets[ALL].scored_against == "teacher" else None


def judge_notes(arms: Mapping[str, ArmScores], found: Judged | None) -> tuple[str, ...]:
    """What a reader of the tables has to know about the judge."""
    if found is None or arms["base"].subsets[ALL].scored_against != "judge":
        return ()
    return (
        "There are no references: an answer counts where a judge prefers it to System 2's or finds it as good. "
        "System 2's own figure is of a second answer that it gave. Differences are wins less losses.",
        *doubts(found),
    )
