"""The decision follows from the interval, and whole experiments of known truth end with the right one."""

from collections.abc import Iterator

import numpy as np
import pytest

from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.assignment import CLUSTERS, Place, arm_at, place
from s2d_ray.experiment.decision import decide
from s2d_ray.experiment.sequences import difference, moments
from s2d_ray.recipes.serve import Weights

MARGIN = 0.05


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.04, 0.01, "promote"),
        (-0.05, 0.01, "promote"),
        (0.01, 0.03, "promote"),
        (-0.06, 0.04, "keep testing"),
        (-0.09, -0.05, "keep testing"),
        (-0.09, -0.051, "keep System 2"),
    ],
)
def test_the_interval_decides(low: float, high: float, verdict: str) -> None:
    assert decide(Interval((low + high) / 2, low, high, 1234), MARGIN).verdict == verdict


def test_the_reason_is_one_sentence_with_the_figures() -> None:
    reason = decide(Interval(-0.012, -0.034, 0.01, 12345), MARGIN).reason
    for figure in (
        "5 points",
        "\N{MINUS SIGN}1.2 points",
        "\N{MINUS SIGN}3.4",
        "+1.0",
        "12\N{NARROW NO-BREAK SPACE}345 ratings",
    ):
        assert figure in reason
    assert reason.endswith(".")
    assert ". " not in reason


def test_without_enough_raters_it_says_what_is_missing() -> None:
    found = decide(None, MARGIN)
    assert (found.verdict, found.reason) == (
        "keep testing",
        "Too few ratings: 50 users or more must have rated each arm.",
    )


RAMP = (Weights(system1=0.01), Weights(system1=0.1), Weights(system1=0.5))


@pytest.mark.parametrize(
    ("system1", "verdict"),
    [(0.80, "promote"), (0.83, "promote"), (0.68, "keep System 2"), (0.55, "keep System 2")],
)
def test_whole_experiments_end_with_the_right_decision(system1: float, verdict: str) -> None:
    """100 experiments on a ramp, System 2 rated 0.80: the first decision taken, looking all the time, is right."""
    decisions = [first_decision(system1, 0.80, seed) for seed in range(100)]
    assert decisions.count(verdict) >= 95


def first_decision(system1: float, system2: float, seed: int) -> str:
    """Of users with tastes of their own who rate 16,000 answers, the weights rising on the way."""
    random = np.random.default_rng(seed)
    places = [place(f"salt {seed}", f"user {i}") for i in range(3000)]
    tastes = random.uniform(-0.15, 0.15, len(places))
    counts, totals = np.zeros((2, CLUSTERS)), np.zeros((2, CLUSTERS))
    for arms in ramp(places):
        users = random.integers(0, len(places), 200)
        liked = random.random(200) < np.array([system1, system2])[arms[users]] + tastes[users]
        at = (arms[users], np.array([places[user].cluster for user in users]))
        np.add.at(counts, at, 1)
        np.add.at(totals, at, liked)
        decision = decide(difference(moments(counts[0], totals[0]), moments(counts[1], totals[1]), MARGIN, 1), MARGIN)
        if decision.verdict != "keep testing":
            return decision.verdict
    return "keep testing"


def ramp(places: list[Place]) -> Iterator[np.ndarray]:
    """For each of 80 looks, the arm of every user: 0 for System 1, 1 for System 2."""
    for weights, looks in zip(RAMP, (10, 20, 50), strict=True):
        arms = np.array([0 if arm_at(where.point, weights) == "system1" else 1 for where in places])
        yield from [arms] * looks
