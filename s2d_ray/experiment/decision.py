"""Whether System 1 may replace System 2: a conclusion that the interval of their difference forces, and why."""

from dataclasses import dataclass
from typing import Literal

from s2d_ray.display.formatting import count, points
from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.sequences import MIN_USERS

Verdict = Literal["promote", "keep testing", "keep System 2"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict and, in one sentence with the figures, why."""

    verdict: Verdict
    reason: str


def decide(difference: Interval | None, margin: float) -> Decision:
    """The verdict on the mean rating of System 1 minus that of System 2, which may be at worst `-margin`.

    `promote` where the whole interval is above, `keep System 2` where it is below, `keep testing` between. Asked
    again and again as ratings come in, the chance of ever a wrong one is 5%, for the interval is a sequence's.
    """
    if difference is None:
        return Decision("keep testing", f"Too few ratings: {MIN_USERS} users or more must have rated each arm.")
    lower = f"rated more than {100 * margin:g} points lower than System 2"
    figures = (
        f"the difference is {points(difference.value)} points, and between {points(difference.low)} and "
        f"{points(difference.high)} as far as {count(difference.n)} ratings can tell."
    )
    if difference.low >= -margin:
        return Decision("promote", f"System 1 is not {lower}: {figures}")
    if difference.high < -margin:
        return Decision("keep System 2", f"System 1 is {lower}: {figures}")
    return Decision("keep testing", f"It is open whether System 1 is {lower}: {figures}")
