"""What trainings that differ in their seed alone came to: one training's figure is an anecdote."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from s2d_ray.arms import repeats_another, training_of
from s2d_ray.evaluation.metrics import ALL, Answer, ArmScores, score_arms
from s2d_ray.evaluation.verdict import Verdict
from s2d_ray.report.figures import compare_arms
from s2d_ray.report.sections import Repeats, Spread
from s2d_ray.tasks.task import Task


def first_trainings(answers: Sequence[Answer]) -> list[Answer]:
    """Those of the arms as the report is about them."""
    return [answer for answer in answers if not repeats_another(answer.arm)]


def repeats(
    answers: Sequence[Answer], task: Task, conclude: Callable[[Sequence[Answer]], Verdict] | None
) -> Repeats | None:
    """Each training beside the others, from the answers of all; None where each arm is trained once.

    Without `conclude` they have no verdicts.
    """
    trainings = {training_of(answer.arm) for answer in answers}
    trained = sorted({arm for arm, number in trainings if number > 1})
    if not trained:
        return None
    each = [_training(answers, number, trained) for number in range(1, max(number for _, number in trainings) + 1)]
    scores = [score_arms(of_training, task, needed=()) for of_training in each]
    compared = [compare_arms(arms, of_training, task) for arms, of_training in zip(scores, each, strict=True)]
    return Repeats(
        accuracy={arm: _accuracy([arms[arm] for arms in scores]) for arm in trained},
        inconsistent={arm: found for arm in trained if (found := _inconsistent([arms[arm] for arms in scores]))},
        differences={
            name: {subset: spread([c[name][subset].difference for c in compared]) for subset in of_subsets}
            for name, of_subsets in compared[0].items()
            if name.startswith("student_vs_")
        },
        verdicts=tuple(conclude(a).verdict for a in each) if conclude and "student" in trained else (),
    )


def caveats(repeats: Repeats | None, seeds: int) -> list[str]:
    """What to hold against the verdict of one training, of so many that were run."""
    if seeds == 1:
        return ["One training of each arm was run: another seed may come out otherwise (`evaluate.seeds`)."]
    if repeats is None:
        return ["The judge compared the first of the trainings alone."]
    if len(set(repeats.verdicts)) > 1:
        return [
            f"Another seed would turn it: the {len(repeats.verdicts)} trainings come to {'; '.join(repeats.verdicts)}."
        ]
    return []


def spread(values: Sequence[float]) -> Spread:
    """Of figures of several trainings."""
    return Spread(values=tuple(values), mean=float(np.mean(values)), deviation=float(np.std(values, ddof=1)))


def _training(answers: Sequence[Answer], number: int, trained: Sequence[str]) -> list[Answer]:
    """The answers of the trainings of that number, under the arms' own names, and of the arms that are not trained."""
    found = [(answer, *training_of(answer.arm)) for answer in answers]
    return [replace(answer, arm=arm) for answer, arm, own in found if own == number or arm not in trained]


def _accuracy(scores: Sequence[ArmScores]) -> dict[str, Spread]:
    return {subset: spread([arm.subsets[subset].accuracy for arm in scores]) for subset in scores[0].subsets}


def _inconsistent(scores: Sequence[ArmScores]) -> Spread | None:
    known = [share.value for arm in scores if (share := arm.subsets[ALL].inconsistent) is not None]
    return spread(known) if len(known) == len(scores) else None
