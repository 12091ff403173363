"""Does this task distil? A conclusion that the figures force, in one sentence that carries them.

Not every task does (step-by-step arithmetic did not in the paper), and then System 2 has to stay; and where System 2
answers no better than System 1 there is nothing to distil, however well the distilled model follows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from s2d_ray.display.formatting import percent, points, tokens
from s2d_ray.evaluation.metrics import Score, ScoredAgainst
from s2d_ray.evaluation.statistics import Paired

TOKEN_SHARE = 0.5
"""Largest share of System 2's generated tokens that still counts as a saving."""

Conclusion = Literal[
    "distils",
    "partly",
    "does not distil: keep System 2",
    "nothing to distil: keep System 1",
    "open: more held-out prompts are needed",
]
KEEP_SYSTEM2: Conclusion = "does not distil: keep System 2"
KEEP_SYSTEM1: Conclusion = "nothing to distil: keep System 1"
OPEN: Conclusion = "open: more held-out prompts are needed"
USEFUL: Sequence[Conclusion] = ("distils", "partly")
"""Conclusions under which the distilled model is of use."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How often answers change with how a question is put."""

    student: float
    """Share of the questions."""
    teacher: float
    difference: Paired
    """The student's share minus the teacher's."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The three arms on the prompts that decide, and what must not get worse."""

    base: Score
    teacher: Score
    student: Score
    student_vs_teacher: Paired
    student_vs_base: Paired
    teacher_vs_base: Paired
    changes: Changes | None = None
    """Over the questions that are put in several forms; None where none is."""
    others: Mapping[str, Paired] = field(default_factory=dict[str, Paired])
    """Each subset that does not decide → the student there, minus the arm that it must not fall below."""
    lost: Sequence[str] = ()
    """What got worse that the task does not measure, a clause each."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion, why, and what a reader should hold against it."""

    verdict: Conclusion
    reason: str
    """One sentence, with the figures."""
    caveats: tuple[str, ...]
    """A sentence each."""


def judge(evidence: Evidence, margin: float, where: str = "") -> Verdict:
    """The verdict on the distilled model; `where` names the prompts that decide, if not all do.

    It distils where System 2 or the distilled model is better than System 1 by more than chance, the whole intervals
    of the distilled model's difference to System 2 and to System 1 lie above `-margin` (a share), it generates at most
    half of System 2's tokens, is as consistent where the prompt is perturbed, and nothing else got worse. It does not
    where it is not better than System 1 and falls short of System 2, by the margin or by more than chance. There is
    nothing to distil where neither beats System 1 and both intervals end below `margin`. Where too few prompts leave
    that open the verdict is open, or partly if the distilled model is better than System 1 all the same.
    """
    conclusion, why = _conclude(evidence, margin)
    unsaid = [f"The distilled model {clause}." for clause in _shortfalls(evidence, margin) if clause not in why]
    caveats = unsaid if conclusion in USEFUL else []
    return Verdict(conclusion, f"{why}: {_figures(evidence, margin, where)}.", (*caveats, *_caveats(evidence, margin)))


def untrained(reason: str, teacher_vs_base: Paired, against: ScoredAgainst, margin: float) -> Verdict:
    """The verdict where there was nothing to train on: `reason` is a sentence that says why."""
    if against == "teacher":
        return Verdict(OPEN, reason, (_AGREEMENT,))
    if is_gain(teacher_vs_base):
        return Verdict(KEEP_SYSTEM2, reason, ())
    return Verdict(KEEP_SYSTEM1 if teacher_vs_base.high <= margin else OPEN, reason, (_NO_GAIN,))


def _conclude(evidence: Evidence, margin: float) -> tuple[Conclusion, str]:
    to_teacher, to_base = evidence.student_vs_teacher, evidence.student_vs_base
    gain = is_gain(to_base)
    if not (gain or is_gain(evidence.teacher_vs_base)):
        if max(to_base.high, evidence.teacher_vs_base.high) <= margin:
            return KEEP_SYSTEM1, "Neither System 2 nor the distilled model is better than System 1"
        return OPEN, "Too few prompts to tell whether System 2 or the distilled model is better than System 1"
    if to_teacher.high < -margin and gain:
        return "partly", "The distilled model beats System 1 but falls short of System 2"
    # Within the margin a copy of System 1 may be as well, where System 2 gains little.
    if not gain and (to_teacher.high < -margin or (to_teacher.significant and to_teacher.difference < 0)):
        return KEEP_SYSTEM2, "The distilled model falls short of System 2 and does not beat System 1"
    if to_teacher.low < -margin:
        unknown = "too few prompts to tell whether the distilled model answers as well as System 2"
        return ("partly", f"Better than System 1, but {unknown}") if gain else (OPEN, f"T{unknown[1:]}")
    level = f"The distilled model answers {'better than' if is_gain(to_teacher) else 'as well as'} System 2"
    if not gain and to_base.low < -margin:
        return OPEN, f"{level}, but there are too few prompts to tell whether it falls below System 1"
    if shortfalls := _shortfalls(evidence, margin):
        return "partly", f"{level}, but {' and '.join(shortfalls)}"
    return "distils", f"{level} and generates at most half of its tokens"


def is_gain(difference: Paired) -> bool:
    """Whether the first arm is better by more than chance."""
    return difference.significant and difference.difference > 0


def _shortfalls(evidence: Evidence, margin: float) -> list[str]:
    """What keeps a model that answers as well as System 2 from replacing it, a clause each."""
    found = [] if _saves(evidence) else ["does not halve its tokens"]
    changes = evidence.changes
    if changes and _worse(-changes.difference.difference, changes.difference, margin):
        figures = f"{percent(changes.student)}% against {percent(changes.teacher)}%"
        found.append(f"changes its answer more often where it must not ({figures})")
    found += [
        f"gets worse on {name} ({points(d.difference)} points)"
        for name, d in evidence.others.items()
        if _worse(d.difference, d, margin)
    ]
    return [*found, *evidence.lost]


def _worse(difference: float, compared: Paired, margin: float) -> bool:
    """Whether a difference is a loss of more than the margin, and no chance."""
    return compared.significant and difference < -margin


def _saves(evidence: Evidence) -> bool:
    ours, theirs = evidence.student.tokens_per_answer, evidence.teacher.tokens_per_answer
    return ours is not None and theirs is not None and ours <= TOKEN_SHARE * theirs


def _figures(evidence: Evidence, margin: float, where: str) -> str:
    d = evidence.student_vs_teacher
    return (
        f"{percent(evidence.student.accuracy)}% against {percent(evidence.teacher.accuracy)}% for System 2 "
        f"and {percent(evidence.base.accuracy)}% for System 1 on {on_prompts(d, where)} "
        f"(difference to System 2 {points(d.difference)} points, 95% interval {points(d.low)} to {points(d.high)}, "
        f"margin {points(-margin)}), with {_tokens(evidence.student)} generated tokens per answer "
        f"instead of {_tokens(evidence.teacher)}"
    )


def on_prompts(compared: Paired, where: str) -> str:
    """On how many prompts, and in how many clusters where several share one."""
    named = f"{compared.n} prompts{f' of {where}' if where else ''}"
    return named if compared.clusters == compared.n else f"{named} in {compared.clusters} clusters"


_AGREEMENT = "There are no references: accuracy here is agreement with System 2, right or wrong."
_NO_GAIN = "System 2 itself does not beat System 1 here by more than chance."


def _caveats(evidence: Evidence, margin: float) -> list[str]:
    caveats = []
    if evidence.student.scored_against == "teacher":
        caveats.append(_AGREEMENT)
    elif not is_gain(evidence.teacher_vs_base):
        caveats.append(_NO_GAIN)
    if evidence.student_vs_base.significant and evidence.student_vs_base.difference < 0:
        caveats.append("The distilled model is worse than plain System 1 here.")
    unsure = [
        f"{name} ({points(d.low)} to {points(d.high)})"
        for name, d in evidence.others.items()
        if d.low < -margin and not _worse(d.difference, d, margin)
    ]
    if unsure:
        caveats.append(
            f"Too few prompts to rule out a loss of more than {100 * margin:g} points on {' and '.join(unsure)}."
        )
    changes = evidence.changes and evidence.changes.difference
    if changes and changes.high > margin and not _worse(-changes.difference, changes, margin):
        caveats.append(
            f"Too few questions to rule out that it changes its answer where it must not in more than {100 * margin:g} "
            f"points more of them than System 2 ({points(changes.low)} to {points(changes.high)})."
        )
    return caveats


def _tokens(score: Score) -> str:
    return tokens(score.tokens_per_answer, "an unknown number of")
