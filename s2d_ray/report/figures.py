"""What a report says of the answers to the held-out prompts: comparisons, verdicts, and what to know about them."""

from collections.abc import Iterable, Mapping, Sequence

from s2d_ray.arms import CONTROLS, further_arm, is_further, label
from s2d_ray.data.records import Row
from s2d_ray.display.formatting import percent
from s2d_ray.evaluation.cascade import calibrate, curve, trials
from s2d_ray.evaluation.metrics import ALL, Answer, ArmScores, Score, compare
from s2d_ray.evaluation.statistics import Paired
from s2d_ray.evaluation.verdict import Evidence, Verdict, judge, untrained
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import Cascade
from s2d_ray.report.published import reported_for
from s2d_ray.report.schema import CalibratedCascade, PaperFigure, PaperResults
from s2d_ray.tasks.task import Task

COMPARED = (
    ("student", "teacher"),
    ("student", "base"),
    ("student", "base_few_shot"),
    ("teacher", "base"),
    ("teacher", "base_few_shot"),
    ("student", "student_of_base"),
    ("student", "student_uncurated"),
)

Scores = Mapping[str, ArmScores]
"""Arm → its scores."""
Comparisons = Mapping[str, Mapping[str, Paired]]
"""`<first>_vs_<second>` → subset → first minus second."""


def compare_arms(arms: Scores, answers: Sequence[Answer], task: Task) -> Comparisons:
    """The student against every other arm, and the teacher against System 1, of those that answered."""
    further = [("student", arm) for arm in arms if is_further(arm)]
    return {
        f"{first}_vs_{second}": compare(answers, first, second, task)
        for first, second in (*COMPARED, *further)
        if first in arms and second in arms
    }


def metric_of(arms: Scores, task: Task) -> str:
    """What accuracy is called."""
    against = arms["base"].subsets[ALL].scored_against
    return "agreement with System 2" if against == "teacher" else task.metric


def verdicts(
    arms: Scores, comparisons: Comparisons, margin: float, untrained_arms: Mapping[str, str]
) -> dict[str, Verdict]:
    """The verdict over all prompts and, where there was anything to train on, of each subset."""
    if "student" in untrained_arms:
        return {ALL: untrained(untrained_arms["student"])}
    return {
        subset: judge(
            Evidence(
                base=arms["base"].subsets[subset],
                teacher=arms["teacher"].subsets[subset],
                student=arms["student"].subsets[subset],
                student_vs_teacher=comparisons["student_vs_teacher"][subset],
                student_vs_base=comparisons["student_vs_base"][subset],
                teacher_vs_base=comparisons["teacher_vs_base"][subset],
            ),
            margin,
        )
        for subset in comparisons["student_vs_teacher"]
    }


def consistent_by_design(recipe: Recipe, arms: Scores) -> tuple[str, ...]:
    """The arms that judge in both orders of the responses, of those that answered."""
    methods = {"teacher": recipe.method.options | recipe.evaluate.method}
    methods |= {further_arm(method.name): method.options for method in recipe.evaluate.also}
    return tuple(arm for arm in arms if methods.get(arm, {}).get("both_orders") is True)


def of_majorities(by_samples: Mapping[int, Scores]) -> dict[str, dict[int, Score]]:
    """Arm → number of samples → the score of their majority over all prompts."""
    found: dict[str, dict[int, Score]] = {}
    for samples, arms in by_samples.items():
        for arm, scores in arms.items():
            found.setdefault(arm, {})[samples] = scores.subsets[ALL]
    return found


def calibrated(rule: Cascade, rows: Iterable[Row], task: Task) -> CalibratedCascade:
    """The threshold of a cascade and what it gives, and its curve, from rows of schema `ANSWERS`."""
    found = trials(rows, rule, task)
    return CalibratedCascade(
        confidence=rule.confidence, calibration=calibrate(found, rule.target), curve=tuple(curve(found))
    )


def paper_results(recipe: Recipe, one_sample: Scores) -> PaperResults | None:
    """The paper's results for this task and method; with each figure the run's own, of one sample.

    A run scored against the teacher has none to compare.
    """
    paper = reported_for(recipe.task.name, recipe.method.name)
    if paper is None:
        return None
    figures = []
    for figure in paper.figures:
        arm = one_sample.get(figure.arm)
        score = arm.subsets.get(figure.subset) if arm else None
        run = score if score and score.scored_against == "reference" else None
        figures.append(PaperFigure(published=figure, run=run))
    return PaperResults(
        metric=paper.metric,
        distils=paper.distils,
        finding=paper.finding,
        finding_mark=paper.finding_mark,
        figures=tuple(figures),
    )


def notes(arms: Scores, subsets: Sequence[str], untrained_arms: Mapping[str, str]) -> list[str]:
    """What a reader of the tables has to know about this run's arms and subsets."""
    found = []
    for arm, reason in untrained_arms.items():
        if arm in arms:  # The other parts of a mixture make a model all the same.
            found.append(f"{label(arm)} was trained on the other parts of the mixture alone. {reason}")
        elif arm in CONTROLS:
            found.append(f"{label(arm)} is absent. {reason}")
    if {"right", "doubt"} <= set(subsets) and "student" in arms:
        found.append(_lost_echo(arms["base"], arms["student"]))
    return found


def _lost_echo(before: ArmScores, after: ArmScores) -> str:
    figures = "; ".join(
        f"{subset}: {percent(after.subsets[subset].accuracy)}% after, "
        f"{percent(before.subsets[subset].accuracy)}% before"
        for subset in ("right", "doubt")
    )
    return (
        "In the subsets right and doubt the opinion in the prompt names the right answer, so a model that merely "
        "echoes opinions scores there without knowing anything. A model that stops echoing loses that help: "
        f"distilled against System 1, {figures}."
    )
