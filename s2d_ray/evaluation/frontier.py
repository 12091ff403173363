"""What less reasoning than System 2's reaches, in accuracy against generated tokens, and what of it to ship."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from s2d_ray.arms import label
from s2d_ray.display.formatting import percent, points, tokens
from s2d_ray.evaluation.metrics import Score
from s2d_ray.evaluation.statistics import Paired
from s2d_ray.evaluation.verdict import on_prompts

Standing = Literal["not worse", "worse", "open"]
"""Of an arm against System 2, by the margin; open where too few prompts tell."""
KEEP_SYSTEM2 = "none of them: keep System 2"


@dataclass(frozen=True, slots=True)
class Point:
    """One arm on the prompts that decide."""

    score: Score
    to_teacher: Paired
    """The arm minus System 2."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Frontier:
    """The arms that may take System 2's place, beside it."""

    points: Mapping[str, Point]
    """Arm → its point, in the order of tables."""
    teacher: Score
    """Of System 2, on the same prompts."""
    ship: str | None
    """The arm with the fewest tokens of those that are not worse than System 2; None where System 2 has to stay."""
    conclusion: str
    """What to ship, for a person."""
    reason: str
    """One sentence, with the figures."""


def frontier(scores: Mapping[str, Score], to_teacher: Mapping[str, Paired], margin: float, where: str = "") -> Frontier:
    """The arms in `to_teacher`, which has each minus System 2, and what to ship; `where` names the prompts that decide.

    An arm is not worse where the whole interval of its difference lies above `-margin` (a share), and worse where it
    lies below. What is shipped generates fewer tokens than System 2; of equals it is the first.
    """
    teacher = scores["teacher"]
    found = {arm: Point(scores[arm], to, _standing(to, margin)) for arm, to in to_teacher.items()}
    fit = [arm for arm, point in found.items() if point.standing == "not worse" and _cost(point.score) < _cost(teacher)]
    ship = min(fit, key=lambda arm: _cost(scores[arm]), default=None)
    reason = _why(found[ship], teacher, margin, where) if ship else _why_none(found, teacher, margin, where)
    return Frontier(found, teacher, ship, label(ship) if ship else KEEP_SYSTEM2, reason)


def _why(shipped: Point, teacher: Score, margin: float, where: str) -> str:
    d = shipped.to_teacher
    return (
        f"Of those that are not worse than System 2 it generates the fewest tokens per answer: "
        f"{tokens(shipped.score.tokens_per_answer)} instead of {tokens(teacher.tokens_per_answer)}, for "
        f"{percent(shipped.score.accuracy)}% against {percent(teacher.accuracy)}% on {on_prompts(d, where)} "
        f"(difference {points(d.difference)} points, 95% interval {points(d.low)} to {points(d.high)}, "
        f"margin {points(-margin)})."
    )


def _why_none(found: Mapping[str, Point], teacher: Score, margin: float, where: str) -> str:
    on = on_prompts(next(iter(found.values())).to_teacher, where)
    return (
        f"No arm with fewer tokens is sure to stay within {percent(margin)} points of System 2, which has "
        f"{percent(teacher.accuracy)}% with {tokens(teacher.tokens_per_answer)} generated tokens per answer on {on}."
    )


def _standing(to_teacher: Paired, margin: float) -> Standing:
    if to_teacher.low >= -margin:
        return "not worse"
    return "worse" if to_teacher.high < -margin else "open"


def _cost(score: Score) -> float:
    return inf if score.tokens_per_answer is None else score.tokens_per_answer
