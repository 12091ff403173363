"""Does this task distil? A conclusion that the figures force, in one sentence that carries them.

Not every task does (step-by-step arithmetic did not in the paper), and then System 2 has to stay.
"""

from dataclasses import dataclass
from typing import Literal

from s2d_ray.display.formatting import percent, points, tokens
from s2d_ray.evaluation.metrics import Score
from s2d_ray.evaluation.statistics import Paired

TOKEN_SHARE = 0.5
"""Largest share of System 2's generated tokens that still counts as a saving."""

Conclusion = Literal["distils", "partly", "does not distil: keep System 2", "nothing to distil: keep System 1"]
KEEP_SYSTEM2: Conclusion = "does not distil: keep System 2"
KEEP_SYSTEM1: Conclusion = "nothing to distil: keep System 1"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The three arms that decide, on the same prompts."""

    base: Score
    teacher: Score
    student: Score
    student_vs_teacher: Paired
    student_vs_base: Paired
    teacher_vs_base: Paired


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion, why, and what a reader should hold against it."""

    verdict: Conclusion
    reason: str
    """One sentence, with the figures."""
    caveats: tuple[str, ...]
    """A sentence each."""


def judge(evidence: Evidence, margin: float) -> Verdict:
    """The verdict on the distilled model.

    It distils where the whole interval of its difference to System 2 lies above `-margin` (a share), it generates
    at most half of System 2's tokens, and is as consistent where the prompt is perturbed. It does not where the
    whole interval lies below, and it is not better than System 1 either. Everything between, too few prompts to
    tell included, is partly. Where it does not distil, or only partly, and System 2 is not better than System 1
    either, there is nothing to distil.
    """
    conclusion, why = _conclude(evidence, margin)
    return Verdict(conclusion, f"{why}: {_figures(evidence, margin)}.", tuple(_caveats(evidence)))


def untrained(reason: str) -> Verdict:
    """The verdict where there was nothing to train on: `reason` is a sentence that says why."""
    return Verdict(KEEP_SYSTEM2, reason, ())


def _conclude(evidence: Evidence, margin: float) -> tuple[Conclusion, str]:
    difference, gain = evidence.student_vs_teacher, evidence.student_vs_base
    as_well = difference.low >= -margin
    level = f"The distilled model answers {'better than' if _is_gain(difference) else 'as well as'} System 2"
    if as_well and _saves(evidence):
        level += " and generates at most half of its tokens"
        change = _changes_more(evidence)
        return ("partly", f"{level}, but {change}") if change else ("distils", level)
    if not (_is_gain(gain) or _is_gain(evidence.teacher_vs_base)):
        return KEEP_SYSTEM1, "Neither System 2 nor the distilled model beats System 1 by more than chance"
    if as_well:
        return "partly", f"{level} but does not halve its tokens"
    if difference.high >= -margin:
        return "partly", "Too few prompts to tell whether the distilled model answers as well as System 2"
    if _is_gain(gain):
        return "partly", "The distilled model beats System 1 but falls short of System 2"
    return KEEP_SYSTEM2, "The distilled model falls short of System 2 and does not beat System 1"


def _is_gain(difference: Paired) -> bool:
    return difference.significant and difference.difference > 0


def _saves(evidence: Evidence) -> bool:
    ours, theirs = evidence.student.tokens_per_answer, evidence.teacher.tokens_per_answer
    return ours is not None and theirs is not None and ours <= TOKEN_SHARE * theirs


def _changes_more(evidence: Evidence) -> str:
    """Where the distilled model is less consistent under perturbation than System 2: by how much, else empty."""
    ours, theirs = evidence.student.inconsistent, evidence.teacher.inconsistent
    if ours is None or theirs is None or ours.low <= theirs.high:
        return ""
    figures = f"{percent(ours.value)}% against {percent(theirs.value)}%"
    return f"changes its answer more often where a perturbation must not ({figures})"


def _figures(evidence: Evidence, margin: float) -> str:
    d = evidence.student_vs_teacher
    return (
        f"{percent(evidence.student.accuracy)}% against {percent(evidence.teacher.accuracy)}% for System 2 "
        f"and {percent(evidence.base.accuracy)}% for System 1 on {d.n} prompts "
        f"(difference to System 2 {points(d.difference)} points, 95% interval {points(d.low)} to {points(d.high)}, "
        f"margin {points(-margin)}), with {_tokens(evidence.student)} generated tokens per answer "
        f"instead of {_tokens(evidence.teacher)}"
    )


def _caveats(evidence: Evidence) -> list[str]:
    caveats = []
    if evidence.student.scored_against == "teacher":
        caveats.append("There are no references: accuracy here is agreement with System 2, right or wrong.")
    elif not _is_gain(evidence.teacher_vs_base):
        caveats.append("System 2 itself does not beat System 1 here by more than chance.")
    if evidence.student_vs_base.significant and evidence.student_vs_base.difference < 0:
        caveats.append("The distilled model is worse than plain System 1 here.")
    return caveats


def _tokens(score: Score) -> str:
    return tokens(score.tokens_per_answer, "an unknown number of")
