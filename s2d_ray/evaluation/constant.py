"""What knowing nothing scores where there are few possible answers: one answer to every prompt, or any at random."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from s2d_ray.evaluation.metrics import ALL, Answer, marks, of_subset, subsets_of
from s2d_ray.evaluation.statistics import Paired, paired
from s2d_ray.tasks.task import Task


@dataclass(frozen=True, slots=True)
class ConstantAnswer:
    """The answer that is right most often on one part of the evaluation set."""

    answer: str
    accuracy: float
    """Share of the prompts with a reference for which it is right."""
    n: int
    """Those prompts."""


@dataclass(frozen=True, slots=True)
class Constant:
    """What an arm has to be better than to have understood anything."""

    chance: float
    """Share that one of the possible answers, drawn at random, gets right."""
    subsets: Mapping[str, ConstantAnswer]
    """Each subset with references, and `all`."""


def constant(answers: Iterable[Answer], task: Task) -> Constant | None:
    """From the references in one arm's answers; None where the task has no few answers, or there is no reference."""
    labelled = [answer for answer in answers if answer.references]
    if not task.classes or not labelled:
        return None
    parts = {subset: of_subset(labelled, subset) for subset in subsets_of(labelled)}
    return Constant(1 / len(task.classes), {subset: _best(part, task) for subset, part in parts.items()})


def above_constant(answers: Sequence[Answer], task: Task) -> tuple[ConstantAnswer, Paired] | None:
    """One answer to all of these prompts, and one arm's answers minus it. None as `constant`."""
    found = constant(answers, task)
    if found is None:
        return None
    best = found.subsets[ALL]
    labelled = [answer for answer in answers if answer.references]
    right = marks(labelled, task, {})[1]
    always = [task.correct(best.answer, answer.references) for answer in labelled]
    return best, paired([right[answer.key] for answer in labelled], always, [answer.unit for answer in labelled])


def _best(part: list[Answer], task: Task) -> ConstantAnswer:
    right = {given: sum(task.correct(given, a.references) for a in part) for given in task.classes}
    best = max(right, key=right.__getitem__)
    return ConstantAnswer(best, right[best] / len(part), len(part))
