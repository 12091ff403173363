"""What a report says of the answers to the held-out prompts: comparisons, verdicts, and what to know about them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from s2d_ray.arms import CONTROLS, TARGETS, further_arm, is_further, label
from s2d_ray.data.records import Row
from s2d_ray.display.formatting import percent
from s2d_ray.evaluation.answered import answered_by_all
from s2d_ray.evaluation.cascade import calibrate, curve, trials
from s2d_ray.evaluation.constant import above_constant
from s2d_ray.evaluation.frontier import Frontier, frontier
from s2d_ray.evaluation.judging import Judgements, between, of_prompts, rescored
from s2d_ray.evaluation.metrics import (
    ALL,
    Answer,
    ArmScores,
    Score,
    answer_of,
    compare,
    compare_changes,
    of_subset,
    score_arms,
    subsets_of,
)
from s2d_ray.evaluation.statistics import Paired, holm
from s2d_ray.evaluation.verdict import OPEN, Changes, Evidence, Verdict, is_gain, judge, untrained
from s2d_ray.recipes.evaluate import Evaluate
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import Cascade
from s2d_ray.report.published import reported_for
from s2d_ray.report.sections import CalibratedCascade, PaperFigure, PaperResults
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

IN_PLACE = ("base", "base_few_shot", "student", *TARGETS)
"""Arms that may take System 2's place."""

PRIMARY = "student_vs_teacher"
"""The comparison that the verdict is about, on what decides. All others are some of many."""

Scores = Mapping[str, ArmScores]
"""Arm → its scores."""
Comparisons = Mapping[str, Mapping[str, Paired]]
"""`<first>_vs_<second>` → subset → first minus second."""


def headline(decides: Sequence[str]) -> str:
    """The subset that a report speaks of first: the one that decides, or `all` where it is not one alone."""
    return decides[0] if len(decides) == 1 else ALL


def primary(decides: Sequence[str]) -> str | None:
    """The subset of the primary comparison; None where several decide together, which are no column of a table."""
    return headline(decides) if len(decides) <= 1 else None


def compare_arms(arms: Scores, answers: Sequence[Answer], task: Task, subset: str | None = ALL) -> Comparisons:
    """The student against every other arm, and the teacher against System 1 and students on other targets, of those
    that answered.

    Of these one is the primary comparison: the student against the teacher on `subset`, if that is any.
    """
    further = [("student", arm) for arm in arms if is_further(arm)]
    further += [(arm, "teacher") for arm in arms if arm in TARGETS]
    return adjusted(
        {
            f"{first}_vs_{second}": compare(answers, first, second, task)
            for first, second in (*COMPARED, *further)
            if first in arms and second in arms
        },
        subset,
    )


def adjusted(comparisons: Comparisons, subset: str | None) -> Comparisons:
    """All but the primary comparison, of that subset, with their p-values adjusted for being many."""
    cells = [(name, part) for name, parts in comparisons.items() for part in parts]
    many = [cell for cell in cells if cell != (PRIMARY, subset)]
    p_values = dict(zip(many, holm([comparisons[name][part].p_value for name, part in many]), strict=True))
    return {
        name: {part: replace(found, adjusted=p_values.get((name, part))) for part, found in parts.items()}
        for name, parts in comparisons.items()
    }


def validation_gain(rows: Iterable[Row], task: Task, recipe: Recipe) -> Paired | None:
    """The student minus the base on the prompts that decide about a further round, from rows of schema `ANSWERS`."""
    asked = _at_stake([answer_of(row, task) for row in rows], deciding(task, recipe.evaluate))
    answers = answered_by_all(asked, ("student", "base")).answers
    if "student" not in {answer.arm for answer in answers}:
        return None
    return compare(answers, "student", "base", task)[ALL]


def metric_of(arms: Scores, task: Task) -> str:
    """What accuracy is called."""
    measured = {"teacher": "agreement with System 2", "judge": "as good as System 2"}
    return measured.get(arms["base"].subsets[ALL].scored_against, task.metric)


def conclude(
    answers: Sequence[Answer],
    task: Task,
    settings: Evaluate,
    untrained_why: str | None,
    lost: Sequence[str] = (),
    by_judge: Judgements | None = None,
    as_consistent_as: str = "teacher",
) -> Verdict:
    """The verdict, from the core arms' answers to the prompts that all of them answered.

    `untrained_why` is a sentence where there is no student; `lost` what got worse that the task does not measure, a
    clause each; `by_judge` a judge's verdicts, where these say what is as good as System 2; `as_consistent_as` the
    arm that the student must be as consistent as.
    """
    decides = deciding(task, settings)
    counted, answers = answered_by_all(_at_stake(answers, decides)), answered_by_all(answers).answers
    at_stake = counted.answers
    if not at_stake:
        return Verdict(OPEN, "No prompt was answered by all arms.", counted.caveats)
    if untrained_why:
        gain = _compared(at_stake, "teacher", "base", task, by_judge)
        against = score_arms(at_stake, task, ("base", "teacher"))["base"].subsets[ALL].scored_against
        return _with(untrained(untrained_why, gain, against, settings.margin), counted.caveats)
    spared = [name for name in subsets_of(answers) if decides and name not in (*decides, ALL)]
    others = {name: _against_standard(of_subset(answers, name), name, task, by_judge) for name in spared}
    evidence = _evidence(at_stake, task, by_judge)
    # A question's forms may be in several subsets.
    changes = _changes(answers, task, as_consistent_as)
    evidence = replace(
        evidence, changes=changes, others=others, lost=(*_no_better_than_constant(at_stake, task), *lost)
    )
    return _with(judge(evidence, settings.margin, " and ".join(decides)), counted.caveats)


def _with(verdict: Verdict, caveats: Sequence[str]) -> Verdict:
    return replace(verdict, caveats=(*verdict.caveats, *caveats))


def conclude_by_subset(
    answers: Sequence[Answer], conclude_on: Callable[[Sequence[Answer]], Verdict]
) -> dict[str, Verdict]:
    """The verdict of each subset, and of all prompts, as if these alone decided.

    Empty where there is one subset, or no student.
    """
    subsets = subsets_of(answers)
    if len(subsets) <= 2 or "student" not in {answer.arm for answer in answers}:
        return {}
    return {name: conclude_on(of_subset(answers, name)) for name in subsets}


def deciding(task: Task, settings: Evaluate) -> Sequence[str]:
    """The subsets on which the verdict is decided; none where all prompts decide."""
    return task.decides if settings.decides is None else settings.decides


def _at_stake(answers: Sequence[Answer], decides: Sequence[str]) -> list[Answer]:
    """The answers on which the verdict is decided."""
    return [answer for answer in answers if not decides or answer.subset in decides]


def _against_standard(answers: Sequence[Answer], subset: str, task: Task, by_judge: Judgements | None) -> Paired:
    """The student on a subset that does not decide, minus the arm that it must not fall below there."""
    return _compared(answers, "student", "teacher" if subset in task.echoed else "base", task, by_judge)


def _compared(answers: Sequence[Answer], first: str, second: str, task: Task, by_judge: Judgements | None) -> Paired:
    if by_judge is None:
        return compare(answers, first, second, task)[ALL]
    return between(of_prompts(by_judge, {answer.key for answer in answers}), first, second)


def _evidence(answers: Sequence[Answer], task: Task, by_judge: Judgements | None) -> Evidence:
    """What the core arms did on all these prompts."""
    arms = score_arms(answers, task)
    if by_judge is not None:
        arms = rescored(arms, of_prompts(by_judge, {answer.key for answer in answers}))
    return Evidence(
        base=arms["base"].subsets[ALL],
        teacher=arms["teacher"].subsets[ALL],
        student=arms["student"].subsets[ALL],
        student_vs_teacher=_compared(answers, "student", "teacher", task, by_judge),
        student_vs_base=_compared(answers, "student", "base", task, by_judge),
        teacher_vs_base=_compared(answers, "teacher", "base", task, by_judge),
    )


def _no_better_than_constant(answers: Sequence[Answer], task: Task) -> list[str]:
    """A clause where the student may have understood nothing: one answer to all is as good."""
    found = above_constant([answer for answer in answers if answer.arm == "student"], task)
    if found is None or is_gain(found[1]):
        return []
    return [f"is not better than always answering “{found[0].answer}” ({percent(found[0].accuracy)}%)"]


def _changes(answers: Sequence[Answer], task: Task, teacher: str) -> Changes | None:
    difference = compare_changes(answers, "student", teacher, task)
    if difference is None:
        return None
    arms = score_arms(answers, task, needed=())
    ours, theirs = (arms[arm].subsets[ALL].inconsistent for arm in ("student", teacher))
    return Changes(ours.value, theirs.value, difference) if ours and theirs else None


def frontier_of(
    answers: Sequence[Answer], task: Task, settings: Evaluate, by_judge: Judgements | None
) -> Frontier | None:
    """Accuracy against tokens on the prompts that decide; None where no student on another target answered them."""
    decides = deciding(task, settings)
    at_stake = _at_stake(answers, decides)
    arms: Scores = score_arms(at_stake, task, ("base", "teacher"))
    if not any(arm in TARGETS for arm in arms):
        return None
    if by_judge is not None:
        arms = rescored(arms, of_prompts(by_judge, {answer.key for answer in at_stake}))
    to_teacher = {arm: _compared(at_stake, arm, "teacher", task, by_judge) for arm in arms if arm in IN_PLACE}
    scores = {arm: parts.subsets[ALL] for arm, parts in arms.items()}
    return frontier(scores, to_teacher, settings.margin, " and ".join(decides))


def whose_consistency(recipe: Recipe, arms: Scores) -> str:
    """Whose consistency counts: where System 2 cannot but be consistent, that of its method in one order."""
    by_design, in_one_order = consistent_by_design(recipe, arms), further_arm(recipe.method.name)
    usable = in_one_order in arms and in_one_order not in by_design
    return in_one_order if "teacher" in by_design and usable else "teacher"


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
        elif arm in CONTROLS or arm in TARGETS:
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
