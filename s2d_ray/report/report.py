"""The report of a run: everything that its folders hold, as report.json, report.md and report.html.

report.json is complete; the other two are drawn from the same model and know nothing else.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from s2d_ray.arms import CORE_ARMS
from s2d_ray.data.files import make_folder, read_rows, write_json, write_text
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import EvaluationManifest
from s2d_ray.evaluation.constant import constant
from s2d_ray.evaluation.judging import Judged, Judgements, rescored
from s2d_ray.evaluation.metrics import Answer, answer_of, majorities, score_arms, subsets_of
from s2d_ray.evaluation.verdict import USEFUL
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report import account, beside, figures
from s2d_ray.report.examples import choose, examples
from s2d_ray.report.render import html_page, markdown_page
from s2d_ray.report.repeats import caveats, first_trainings, repeats
from s2d_ray.report.schema import Report
from s2d_ray.tasks.task import Task


def write_report(recipe: Recipe, task: Task, folders: RunFolders) -> Report:
    """Write the report of a finished run to `folders.report` and return what report.json holds.

    Raises UserError where a stage has not finished or an arm has no answers. Controls that were not run
    are left out, and so are arms for which curation kept nothing, with a note.
    """
    report = make_report(recipe, task, folders)
    make_folder(folders.report)
    write_json(folders.report / "report.json", report.model_dump(mode="json"))
    write_text(folders.report / "report.md", markdown_page(report))
    write_text(folders.report / "report.html", html_page(report))
    return report


class _Scored(NamedTuple):
    """The arms by what says that an answer is right: references, System 2's answers, or a judge."""

    arms: figures.Scores
    comparisons: figures.Comparisons
    judged: Judged | None
    by_judge: Judgements | None
    """The judge's verdicts, where these decide."""


def _score(
    recipe: Recipe, task: Task, folders: RunFolders, answers: Sequence[Answer], needed: Sequence[str]
) -> _Scored:
    arms = score_arms(answers, task, needed)
    primary = figures.primary(figures.deciding(task, recipe.evaluate))
    rows = beside.judge_verdicts(recipe, folders)
    judged = beside.judged_of(recipe, rows)
    by_judge = beside.judge_decides(arms, rows) if judged else None
    if judged and by_judge:
        return _Scored(rescored(arms, by_judge), figures.adjusted(judged.comparisons, primary), judged, by_judge)
    return _Scored(arms, figures.compare_arms(arms, answers, task, primary), judged, None)


def make_report(recipe: Recipe, task: Task, folders: RunFolders) -> Report:
    """The report of a finished run. Raises as `write_report`."""
    of_all_trainings = [answer_of(row, task) for row in read_rows(folders.evaluation)]
    answers = first_trainings(of_all_trainings)
    evaluated = account.manifest(folders.evaluation, EvaluationManifest)
    untrained = account.untrained_arms(account.branches_of(folders, account.arms_beside(recipe.evaluate)))
    needed = [arm for arm in CORE_ARMS if arm not in untrained]
    arms, comparisons, judged, by_judge = _score(recipe, task, folders, answers, needed)
    branches = account.branches_of(folders)
    branches = {arm: own for arm, own in branches.items() if arm == "student" or arm in arms or arm in untrained}
    general, benchmarks = beside.general_of(recipe, folders), beside.benchmarks_of(recipe, folders)
    lost = beside.lost_of(recipe, general, benchmarks)
    conclude = partial(
        figures.conclude,
        task=task,
        settings=recipe.evaluate,
        untrained_why=untrained.get("student"),
        lost=lost,
        by_judge=by_judge,
        as_consistent_as=figures.whose_consistency(recipe, arms),
    )
    verdict = conclude(answers)
    again = None if by_judge else repeats(of_all_trainings, task, None if "student" in untrained else conclude)
    if "student" in arms:
        verdict = replace(verdict, caveats=(*verdict.caveats, *caveats(again, recipe.evaluate.seeds)))
    by_samples = {} if by_judge else majorities(answers, recipe.evaluate.samples, task)
    of_one = recipe.evaluate.model_copy(update={"decides": ()})
    # Few tokens for wrong answers are no savings.
    student_tokens = arms["student"].tokens_per_answer if verdict.verdict in USEFUL else None
    rule = recipe.serve.cascade if "student" in arms else None
    chosen = choose(answers, recipe.evaluate.examples)
    return Report(
        recipe=recipe.name,
        description=recipe.description,
        model=recipe.model,
        method=recipe.method.name,
        metric=figures.metric_of(arms, task),
        verdict=verdict,
        decides=tuple(figures.deciding(task, recipe.evaluate)),
        verdict_by_subset=figures.conclude_by_subset(answers, partial(conclude, settings=of_one)),
        frontier=figures.frontier_of(answers, task, recipe.evaluate, by_judge),
        lost=lost,
        general=general,
        benchmarks=benchmarks,
        judged=judged,
        arms=arms,
        inconsistency=task.inconsistency,
        constant=constant((answer for answer in answers if answer.arm == "base"), task),
        consistent_by_design=figures.consistent_by_design(recipe, arms),
        perturbations=tuple(sorted({name for answer in answers for name in answer.variants})),
        majority=figures.of_majorities(by_samples) if recipe.evaluate.samples > 1 else {},
        reported=figures.paper_results(recipe, by_samples.get(1, {})),
        cascade=figures.calibrated(rule, read_rows(folders.evaluation), task) if rule else None,
        comparisons=comparisons,
        repeats=again,
        validation=figures.validation_gain(read_rows(folders.validation), task, recipe) if recipe.rounds > 1 else None,
        notes=(
            *account.left_out_notes(folders),
            *figures.notes(arms, subsets_of(answers), untrained),
            *beside.judge_notes(arms, judged),
        ),
        prompts=account.outcomes(folders),
        vote_shares=account.vote_shares(folders),
        precision=account.target_precision(recipe, task, folders),
        ledger=account.ledger_of(recipe, folders, arms["teacher"].tokens_per_answer, student_tokens),
        training={arm: account.training_of(own) for arm, own in branches.items() if arm in arms},
        seconds=account.stage_seconds(evaluated.seconds, branches, recipe.evaluate.seeds),
        examples=tuple(examples(read_rows(folders.evaluation), () if by_judge else answers, chosen, task)),
        settings=recipe.model_dump(mode="json"),
        source=task.source,
        versions=evaluated.versions,
    )
