"""What every arm scored: accuracy, generated tokens and unanswered share per subset, from its answers.

Where a prompt has references they decide what is right. Where no prompt of a part has any, an answer counts
as right when it is System 2's, and the score says so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from s2d_ray.curation.rule import ballot_of
from s2d_ray.errors import UserError
from s2d_ray.evaluation.statistics import Interval, Paired, mean, paired, share
from s2d_ray.records import Row, candidates_from_row
from s2d_ray.tasks.task import Task

ARMS: Mapping[str, str] = {
    "system1": "System 1",
    "system2": "System 2",
    "distilled": "Distilled",
    "distilled_system1": "Distilled from System 1",
    "distilled_unfiltered": "Distilled, no curation",
}
"""Arm → how a report calls it, in the order of its tables. The last two are controls."""
CORE_ARMS = ("system1", "system2", "distilled")
ALL = "all"

ScoredAgainst = Literal["reference", "system2"]
PromptKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm answered to one prompt, read by the task."""

    prompt_id: str
    subset: str
    group: str
    arm: str
    references: Sequence[str]
    answer: str | None
    """The answer most samples gave; None where no sample gave one."""
    tokens: int | None
    """Generated in all steps of all samples; None where generation failed and nothing was counted."""

    @property
    def key(self) -> PromptKey:
        """The same prompt in another arm has the same key."""
        return self.subset, self.prompt_id


@dataclass(frozen=True, slots=True)
class Score:
    """One arm on one part of the evaluation set."""

    accuracy: float
    low: float
    high: float
    """Ends of the Wilson 95% interval."""
    n: int
    """Prompts scored; one that could not be generated or read counts as wrong."""
    tokens_per_answer: float | None
    """Mean generated tokens, intermediate and final; None where every prompt failed."""
    tokens_low: float | None
    tokens_high: float | None
    unanswered: float
    """Share of the prompts with no answer that the task could read."""
    scored_against: ScoredAgainst


@dataclass(frozen=True, slots=True)
class ArmScores:
    """One arm on every part of the evaluation set."""

    tokens_per_answer: float | None
    """Over all prompts."""
    subsets: Mapping[str, Score]
    """Each subset, and `all`."""
    by_group: Mapping[str, Mapping[str, Score]]
    """The same within each group of prompts; empty where the task has no groups."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How often the curated targets are right, beside System 2's answers as they came. For reports only."""

    curated: Interval
    """Over the kept prompts with a reference."""
    raw: Interval
    """Mean over all generated prompts with a reference of the share of their samples that is right."""


def answer_of(row: Row, task: Task) -> Answer:
    """The answer in a row of schema `ANSWERS`."""
    candidates = candidates_from_row(row)
    tokens = sum(sample.tokens for sample in candidates.samples) if candidates.samples else None
    answer = most_frequent(ballot_of(candidates, task).answers, task)
    return Answer(row["prompt_id"], row["subset"], row["group"], row["arm"], row["references"], answer, tokens)


def most_frequent(answers: Iterable[str | None], task: Task) -> str | None:
    """The answer given most often up to `task.key`, the earliest of equals; None where there is none."""
    given = [answer for answer in answers if answer is not None]
    if not given:
        return None
    [(winner, _)] = Counter(task.key(answer) for answer in given).most_common(1)
    return next(answer for answer in given if task.key(answer) == winner)


def score_arms(answers: Sequence[Answer], task: Task) -> dict[str, ArmScores]:
    """Every arm that answered, in the order of `ARMS`.

    Raises UserError where one of System 1, System 2 and the distilled model has no answers.
    """
    by_arm = {arm: [a for a in answers if a.arm == arm] for arm in ARMS}
    missing = [arm for arm in CORE_ARMS if not by_arm[arm]]
    if missing:
        raise UserError(f"no answers of {', '.join(missing)} in evaluation/: run `s2d evaluate` again with --overwrite")
    teacher = {a.key: a.answer for a in by_arm["system2"]}
    return {arm: _score_arm(own, task, teacher) for arm, own in by_arm.items() if own}


def marks(
    answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]
) -> tuple[ScoredAgainst, dict[PromptKey, bool]]:
    """Whether one arm's answers are right, against their references or, where none has any, against `teacher`.

    Prompts without a reference are left out as soon as one of the others has some: the two measures do not
    mix. Where the teacher gave no answer nothing agrees with it.
    """
    labelled = [a for a in answers if a.references]
    if labelled:
        return "reference", {a.key: task.correct(a.answer, a.references) for a in labelled}
    return "system2", {a.key: task.correct(a.answer, _known(teacher.get(a.key))) for a in answers}


def compare(answers: Sequence[Answer], first: str, second: str, task: Task) -> dict[str, Paired]:
    """Arm `first` minus arm `second` on the prompts that both were scored on: per subset, and `all`."""
    teacher = {a.key: a.answer for a in answers if a.arm == "system2"}
    results: dict[str, Paired] = {}
    for subset in subsets_of(answers):
        part = [a for a in answers if subset in (ALL, a.subset)]
        ours, theirs = (marks([a for a in part if a.arm == arm], task, teacher)[1] for arm in (first, second))
        both = [key for key in ours if key in theirs]
        if both:
            results[subset] = paired([ours[key] for key in both], [theirs[key] for key in both])
    return results


def subsets_of(answers: Iterable[Answer]) -> list[str]:
    """Every subset by name, then `all`."""
    return [*sorted({a.subset for a in answers} - {ALL}), ALL]


def precision(decisions: Iterable[Row], references: Mapping[str, Sequence[str]], task: Task) -> Precision | None:
    """Precision of the targets in rows of schema `DECISIONS`, given references by prompt id.

    Only their prompt_id, status, target and votes are read. None where no kept prompt has a reference; prompts
    that failed before they had samples are left out.
    """
    targets: list[bool] = []
    raw: list[float] = []
    for row in decisions:
        right = references.get(row["prompt_id"])
        if not right or not row["votes"]:
            continue
        raw.append(sum(task.correct(vote or None, right) for vote in row["votes"]) / len(row["votes"]))
        if row["status"] == "kept":
            targets.append(task.correct(row["target"], right))
    return Precision(share(sum(targets), len(targets)), mean(raw)) if targets else None


def _known(answer: str | None) -> Sequence[str]:
    return [] if answer is None else [answer]


def _score_arm(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> ArmScores:
    groups = sorted({a.group for a in answers} - {""})
    subsets = _score_subsets(answers, task, teacher)
    by_group = {g: _score_subsets([a for a in answers if a.group == g], task, teacher) for g in groups}
    return ArmScores(subsets[ALL].tokens_per_answer, subsets, by_group)


def _score_subsets(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> dict[str, Score]:
    return {
        subset: _score([a for a in answers if subset in (ALL, a.subset)], task, teacher)
        for subset in subsets_of(answers)
    }


def _score(answers: Sequence[Answer], task: Task, teacher: Mapping[PromptKey, str | None]) -> Score:
    against, right = marks(answers, task, teacher)
    accuracy = share(sum(right.values()), len(right))
    counted = [a.tokens for a in answers if a.tokens is not None]
    tokens = mean(counted) if counted else None
    return Score(
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        n=accuracy.n,
        tokens_per_answer=tokens.value if tokens else None,
        tokens_low=tokens.low if tokens else None,
        tokens_high=tokens.high if tokens else None,
        unanswered=sum(a.answer is None for a in answers) / len(answers),
        scored_against=against,
    )
