"""The recommendation follows from the interval, and whole experiments of known truth end with the right one."""

from collections.abc import Iterator

import numpy as np
import pytest

from s2d_ray.evaluation.statistics import Interval
from s2d_ray.experiment.assignment import CLUSTERS, UserHash, arm_at, hash_user
from s2d_ray.experiment.recommendation import recommend
from s2d_ray.experiment.sequences import difference, moments
from s2d_ray.recipes.serve import Weights

MARGIN = 0.05


@pytest.mark.parametrize(
    ("low", "high", "choice"),
    [
        (-0.04, 0.01, "promote"),
        (-0.05, 0.01, "promote"),
        (0.01, 0.03, "promote"),
        (-0.06, 0.04, "keep testing"),
        (-0.09, -0.05, "keep testing"),
        (-0.09, -0.051, "keep System 2"),
    ],
)
def test_the_interval_decides(low: float, high: float, choice: str) -> None:
    assert recommend(Interval((low + high) / 2, low, high, 1234), MARGIN).choice == choice


def test_the_reason_is_one_sentence_with_the_figures() -> None:
    reason = recommend(Interval(-0.012, -0.034, 0.01, 12345), MARGIN).reason
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


def test_while_a_check_fails_nothing_is_promoted_and_the_reason_says_why() -> None:
    failed = ["users are not assigned as planned"]
    found = recommend(Interval(0.0, -0.02, 0.02, 1234), MARGIN, failed)
    assert found.choice == "keep testing"
    assert found.reason.startswith("Since users are not assigned as planned, it is open whether Distilled System 1 is")
    assert recommend(Interval(-0.1, -0.12, -0.08, 1234), MARGIN, failed).choice == "keep System 2"


def test_after_a_roll_back_nothing_is_promoted_whatever_the_ratings() -> None:
    found = recommend(Interval(0.1, 0.05, 0.15, 1234), MARGIN, rolled_back=True)
    assert (found.choice, "rolled back" in found.reason) == ("keep System 2", True)


def test_without_enough_raters_it_says_what_is_missing() -> None:
    found = recommend(None, MARGIN)
    assert (found.choice, found.reason) == (
        "keep testing",
        "Too few ratings: 50 users or more must have rated each arm.",
    )


RAMP = (Weights(student=0.01), Weights(student=0.1), Weights(student=0.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "choice"),
    [(0.80, "promote"), (0.83, "promote"), (0.68, "keep System 2"), (0.55, "keep System 2")],
)
def test_whole_experiments_end_with_the_right_recommendation(student: float, choice: str) -> None:
    """100 experiments on a ramp, the teacher rated 0.80: the first recommendation, looking all the time, is right."""
    found = [first_recommendation(student, 0.80, seed) for seed in range(100)]
    assert found.count(choice) >= 95


def first_recommendation(student: float, teacher: float, seed: int) -> str:
    """Of users with tastes of their own who rate 16,000 answers, the weights rising on the way."""
    random = np.random.default_rng(seed)
    places = [hash_user(f"salt {seed}", f"user {i}") for i in range(3000)]
    tastes = random.uniform(-0.15, 0.15, len(places))
    counts, totals = np.zeros((2, CLUSTERS)), np.zeros((2, CLUSTERS))
    for arms in ramp(places):
        users = random.integers(0, len(places), 200)
        liked = random.random(200) < np.array([student, teacher])[arms[users]] + tastes[users]
        at = (arms[users], np.array([places[user].cluster % CLUSTERS for user in users]))
        np.add.at(counts, at, 1)
        np.add.at(totals, at, liked)
        found = recommend(difference(moments(counts[0], totals[0]), moments(counts[1], totals[1]), MARGIN, 1), MARGIN)
        if found.choice != "keep testing":
            return found.choice
    return "keep testing"


def ramp(places: list[UserHash]) -> Iterator[np.ndarray]:
    """For each of 80 looks, the arm of every user: 0 for the student, 1 for the teacher."""
    for weights, looks in zip(RAMP, (10, 20, 50), strict=True):
        arms = np.array([0 if arm_at(where.point, weights) == "student" else 1 for where in places])
        yield from [arms] * looks
