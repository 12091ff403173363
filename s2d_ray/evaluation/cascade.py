"""A cascade: the student answers where it is confident enough, the teacher the rest. From which confidence on?

Two measures of confidence, the higher the surer: the mean log-probability of the answer's tokens, and the share of
several answers that are the same. The threshold is the lowest at which the share of all answers that differ from
the teacher's stays under what the target allows, by its 95% upper bound, which counts clusters of prompts. That share
only falls as the threshold rises, so taking the first that passes from the top keeps the 95% (Bates, Angelopoulos, Lei,
Malik and Jordan, "Distribution-free, risk-controlling prediction sets", Journal of the ACM 68, 2021).
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from s2d_ray.curation.samples import parse_sample
from s2d_ray.curation.votes import MajorityVote, majority_vote
from s2d_ray.data.records import LabelledPrompt, Prompt, Row, Sample, labelled_from_row, sample_from_row
from s2d_ray.evaluation.statistics import Interval, at_most, share
from s2d_ray.recipes.serve import Cascade
from s2d_ray.tasks.task import Task

CURVE_POINTS = 100
"""Thresholds at most in a curve."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One held-out prompt, answered by both."""

    confidence: float | None
    """Of the student in its answer; None where it gave none, which always goes on to the teacher."""
    agrees: bool
    """Whether the student's answer is the teacher's."""
    student_right: bool | None = None
    """None without a reference."""
    teacher_right: bool | None = None
    cluster: str = ""
    """That the prompt is in; empty where it is its own."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The cascade at one threshold."""

    threshold: float
    """Confidence from which on the student's answer is kept."""
    coverage: Interval
    """Share of the prompts that the student answers."""
    agreement: Interval
    """Share of all answers that are the teacher's or agree with it."""
    accuracy: Interval | None
    """Share of all answers that are right, of prompts with a reference; None where none has one."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold for a target, and what it gives."""

    target: float
    """Share of all answers that are to be the teacher's or agree with it."""
    threshold: float | None
    """None where no threshold is sure to reach the target: the teacher answers everything."""
    at_threshold: CurvePoint | None
    n: int
    """Prompts behind it."""
    clusters: int
    """Clusters that they are in."""


def mean_logprob(logprobs: Sequence[float]) -> float | None:
    """Confidence from the log-probabilities of the generated tokens; None where there are none."""
    return sum(logprobs) / len(logprobs) if logprobs else None


def confidence_of(rule: Cascade, task: Task, prompt: Prompt, samples: Sequence[Sample]) -> float | None:
    """The student's confidence in what it answered, by the rule's measure; None where it has none."""
    if rule.confidence == "votes":
        vote = _vote(task, prompt, samples)
        return vote.share if vote else None
    read = samples and samples[0].steps and parse_sample(samples[0], prompt, task) is not None
    return samples[0].steps[-1].mean_logprob if read else None


def majority_first(task: Task, prompt: Prompt, samples: Sequence[Sample]) -> list[Sample]:
    """The samples, the earliest that gives the most frequent answer in front: that is the answer of them all."""
    vote = _vote(task, prompt, samples)
    best = vote.position if vote else 0
    return [*samples[best : best + 1], *samples[:best], *samples[best + 1 :]]


def _vote(task: Task, prompt: Prompt, samples: Sequence[Sample]) -> MajorityVote | None:
    return majority_vote([parse_sample(sample, prompt, task) for sample in samples], task.key, tie="first")


def same_answer(task: Task, one: str | None, other: str | None) -> bool:
    """Whether two answers are the same; where one is missing, nothing is."""
    return one is not None and other is not None and task.key(one) == task.key(other)


def trials(rows: Iterable[Row], rule: Cascade, task: Task) -> list[Trial]:
    """What the student and the teacher answered to the held-out prompts, from rows of schema `ANSWERS`."""
    answered: dict[tuple[str, str], dict[str, list[Sample]]] = {}
    items: dict[tuple[str, str], LabelledPrompt] = {}
    for row in rows:
        if row["arm"] in ("student", "teacher"):
            key = row["subset"], row["prompt_id"]
            own = [sample for sample in map(sample_from_row, row["samples"]) if not sample.variant]
            answered.setdefault(key, {})[row["arm"]] = own
            items[key] = labelled_from_row(row)
    both = [(items[key], arms) for key, arms in answered.items() if len(arms) == 2]
    return [_trial(item, arms["student"], arms["teacher"], rule, task) for item, arms in both]


def _trial(item: LabelledPrompt, one: Sequence[Sample], two: Sequence[Sample], rule: Cascade, task: Task) -> Trial:
    prompt = item.prompt
    firsts = [majority_first(task, prompt, samples)[:1] for samples in (one, two)]
    answers = [parse_sample(first[0], prompt, task) if first else None for first in firsts]
    right: list[bool | None] = [None, None]
    if item.references:
        right = [task.correct(answer, item.references) for answer in answers]
    return Trial(
        confidence=confidence_of(rule, task, prompt, one),
        agrees=same_answer(task, *answers),
        student_right=right[0],
        teacher_right=right[1],
        cluster=item.unit,
    )


def escalates(confidence: float | None, threshold: float | None) -> bool:
    """Whether an answer of that confidence goes on to the teacher."""
    return threshold is None or confidence is None or confidence < threshold


def calibrate(trials: Sequence[Trial], target: float) -> Calibration:
    """The threshold at which at least `target` of all answers are the teacher's or agree with it, at 95% confidence.

    Raises ValueError where there are no trials.
    """
    if not trials:
        raise ValueError("no trials to calibrate a cascade with")
    clusters = _clusters(trials)
    threshold, differing = None, [False] * len(trials)
    for confidence, tied in _from_the_top(trials):
        for number in tied:
            differing[number] = not trials[number].agrees
        if at_most(differing, clusters) > 1 - target:
            break
        threshold = confidence
    at_threshold = None if threshold is None else curve_point(trials, threshold)
    return Calibration(target, threshold, at_threshold, len(trials), len(set(clusters)))


def curve(trials: Sequence[Trial]) -> list[CurvePoint]:
    """Coverage, agreement and accuracy by threshold, from the highest confidence to the lowest."""
    thresholds = [confidence for confidence, _ in _from_the_top(trials)]
    step = max(1, -(-len(thresholds) // CURVE_POINTS))
    chosen = [*thresholds[:-1:step], *thresholds[-1:]]
    return [curve_point(trials, threshold) for threshold in chosen]


def curve_point(trials: Sequence[Trial], threshold: float) -> CurvePoint:
    """The cascade with that threshold on these prompts."""
    clusters = _clusters(trials)
    kept = [not escalates(trial.confidence, threshold) for trial in trials]
    same = [trial.agrees or not keep for trial, keep in zip(trials, kept, strict=True)]
    right = [trial.student_right if keep else trial.teacher_right for trial, keep in zip(trials, kept, strict=True)]
    known = [(answer, cluster) for answer, cluster in zip(right, clusters, strict=True) if answer is not None]
    accuracy = share(*zip(*known, strict=True)) if known else None
    return CurvePoint(threshold, share(kept, clusters), share(same, clusters), accuracy)


def _clusters(trials: Sequence[Trial]) -> list[Hashable]:
    """The cluster of each trial; its number where it is its own."""
    return [trial.cluster or number for number, trial in enumerate(trials)]


def _from_the_top(trials: Sequence[Trial]) -> list[tuple[float, list[int]]]:
    """Numbers of the trials by confidence, falling; those without one, which no threshold keeps, left out."""
    sure = [(trial.confidence, number) for number, trial in enumerate(trials) if trial.confidence is not None]
    sure.sort(reverse=True)
    return [(confidence, [number for _, number in tied]) for confidence, tied in groupby(sure, key=itemgetter(0))]
