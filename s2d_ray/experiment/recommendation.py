"""Whether the student may replace the teacher: a conclusion that the interval of their difference forces, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from s2d_ray.arms import LABELS
from s2d_ray.display.formatting import count, points
from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.sequences import MIN_USERS

Choice = Literal["promote", "keep testing", "keep System 2"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do and, in one sentence with the figures, why."""

    choice: Choice
    reason: str


def recommend(
    difference: Interval | None, margin: float, failed_checks: Sequence[str] = (), rolled_back: bool = False
) -> Recommendation:
    """From the mean rating of the student minus that of the teacher, which may be at worst `-margin`.

    `promote` where the whole interval is above, `keep System 2` where it is below, `keep testing` between. Asked
    again and again as ratings come in, the chance of ever a wrong one is 5%, for the interval is a sequence's.
    Where a check has failed the arms cannot be compared, and it is never `promote`; nor after a roll-back, until a
    person sets weights again.
    """
    if rolled_back:
        why = "The experiment was rolled back: find out why before you set weights again."
        return Recommendation("keep System 2", why)
    if difference is None:
        return Recommendation("keep testing", f"Too few ratings: {MIN_USERS} users or more must have rated each arm.")
    student, lower = LABELS["student"], f"rated more than {100 * margin:g} points lower than {LABELS['teacher']}"
    figures = (
        f"the difference is {points(difference.value)} points, and between {points(difference.low)} and "
        f"{points(difference.high)} as far as {count(difference.n)} ratings can tell."
    )
    if difference.low >= -margin and failed_checks:
        why = " and ".join(failed_checks)
        return Recommendation("keep testing", f"Since {why}, it is open whether {student} is {lower}: {figures}")
    if difference.low >= -margin:
        return Recommendation("promote", f"{student} is not {lower}: {figures}")
    if difference.high < -margin:
        return Recommendation("keep System 2", f"{student} is {lower}: {figures}")
    return Recommendation("keep testing", f"It is open whether {student} is {lower}: {figures}")
