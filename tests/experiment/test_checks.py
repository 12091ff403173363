"""The checks fail as seldom as promised where nothing is wrong, and find what is: by simulation and by hand."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from s2d_ray.arms import CORE_ARMS
from s2d_ray.experiment.assignment import CELLS, CLUSTERS
from s2d_ray.experiment.checks import FirstRequests, check_assignment, check_ratings
from s2d_ray.experiment.events import REQUESTS, RequestEvent
from s2d_ray.experiment.sequences import moments
from s2d_ray.experiment.state import ALL_TO_TEACHER
from s2d_ray.recipes.serve import Weights
from tests.experiment.test_sequences import Clustered

EVEN = [ALL_TO_TEACHER, Weights()]
RAMP = [*(Weights(student=share, base=0.02) for share in (0.01, 0.1, 0.5)), ALL_TO_TEACHER, Weights(student=0.3)]
RARE = Weights(student=0.05)
FIRST = RequestEvent("s2d-1", 1000.0, "student", 1, CLUSTERS + 5, "answered", 0.25)
LATER = 10_000.0


def counts_of(*events: RequestEvent, versions: int = 2, until: float = LATER) -> np.ndarray:
    """By version and arm, from batches of two."""
    firsts = FirstRequests()
    rows = [asdict(event) | {"time": round(event.time * 1e6)} for event in events]
    for batch in pa.Table.from_pylist(rows, REQUESTS).to_batches(max_chunksize=2):
        firsts.add(batch)
    return firsts.counts(versions, until)


def test_a_user_counts_once_by_the_first_request_in_whatever_order_they_come() -> None:
    events = [
        replace(FIRST, arm="teacher"),
        replace(FIRST, request_id="s2d-2", time=1005.0, version=2),
        replace(FIRST, request_id="s2d-3", time=1009.0, version=2),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]):
        found = counts_of(*(events[i] for i in order), versions=3)
        assert found.sum() == 1
        assert found[1, CORE_ARMS.index("teacher")] == 1


def test_users_are_told_apart_by_their_cells() -> None:
    events = [replace(FIRST, cluster=cell) for cell in (CLUSTERS, CLUSTERS + 1, CELLS - 1)]
    assert counts_of(*events)[1, CORE_ARMS.index("student")] == 3


@pytest.mark.parametrize(
    "event",
    [
        replace(FIRST, time=LATER),  # others of that time may still be waiting for their answer
        replace(FIRST, cluster=CLUSTERS - 1),  # as an older version stored it
        replace(FIRST, version=2),  # of weights that are not known yet
    ],
)
def test_what_cannot_be_told_is_not_counted(event: RequestEvent) -> None:
    assert counts_of(event).sum() == 0


def test_what_was_seen_stands_beside_what_was_planned() -> None:
    counts = np.array([[0, 0, 0], [0, 60, 40], [10, 70, 20]])
    found = check_assignment(counts, [ALL_TO_TEACHER, Weights(student=0.4), Weights(student=0.2, base=0.1)])
    assert found.users == 200
    assert found.seen == pytest.approx({"base": 0.05, "teacher": 0.65, "student": 0.3})
    assert found.planned == pytest.approx(found.seen)
    assert found.passed


def test_without_users_nothing_is_wrong() -> None:
    found = check_assignment(np.zeros((2, 3)), EVEN)
    assert (found.users, found.passed) == (0, True)
    assert check_ratings(moments(np.zeros(9), np.zeros(9)), moments(np.zeros(9), np.zeros(9)), 0.05, 0).passed


def test_users_where_none_may_be_are_found_at_once() -> None:
    assert not check_assignment(np.array([[0, 0, 0], [0, 20, 3]]), [ALL_TO_TEACHER, ALL_TO_TEACHER]).passed
    assert check_assignment(np.array([[0, 0, 0], [0, 2000, 0]]), [ALL_TO_TEACHER, ALL_TO_TEACHER]).passed


def draws(random: Any, weights: list[Weights], users: int, odds: float = 1.0) -> np.ndarray:
    """Users by look (a hundred more each), version and arm, the weights changing on the way; summed up to each."""
    shares = np.array([[getattr(w, arm) for arm in CORE_ARMS] for w in weights]) * [1, 1, odds]
    looks = users // 100
    found = np.zeros((looks, len(weights), len(CORE_ARMS)))
    for look in range(looks):
        version = look * len(weights) // looks
        found[look, version] = random.multinomial(100, shares[version] / shares[version].sum())
    return found.cumsum(0)


def ever_fails(random: Any, weights: list[Weights], users: int, odds: float = 1.0) -> bool:
    return any(not check_assignment(counts, weights).passed for counts in draws(random, weights, users, odds))


@pytest.mark.slow
@pytest.mark.parametrize("weights", [RAMP, *(pytest.param([w], marks=pytest.mark.long) for w in (EVEN[1], RARE))])
def test_an_assignment_as_planned_fails_in_at_most_one_experiment_of_twenty(weights: list[Weights]) -> None:
    random = np.random.default_rng(0)
    assert np.mean([ever_fails(random, weights, 10_000) for _ in range(200)]) <= 0.05


@pytest.mark.slow
def test_48_to_52_in_place_of_even_is_found_within_15_000_users() -> None:
    random = np.random.default_rng(1)
    assert np.mean([ever_fails(random, [Weights()], 15_000, 48 / 52) for _ in range(100)]) >= 0.9


@pytest.mark.slow
def test_a_fifth_of_the_student_s_users_lost_is_found_on_a_ramp() -> None:
    random = np.random.default_rng(2)
    assert np.mean([ever_fails(random, RAMP, 15_000, 0.8) for _ in range(100)]) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), [(0.3, 0.3), (0.42, 0.3)])
def test_ratings_of_heavy_users_fail_where_the_arms_differ_and_else_seldom(student: float, teacher: float) -> None:
    """300 users in each arm, who rate as often as they like and ask as often; looked at every 50 answers."""
    runs, users = 100, 300
    random = np.random.default_rng(3)
    habits = [random.beta(4 * mean, 4 * (1 - mean), (runs, users)) for mean in (student, teacher)]
    often = [(random.pareto(4.0, (runs, users)) + 0.1).cumsum(-1) for _ in habits]
    arms, failed = [Clustered(runs, users) for _ in habits], np.zeros(runs, bool)
    for step in range(6000):
        for arm, habit, frequency in zip(arms, habits, often, strict=True):
            user = (frequency < random.random((runs, 1)) * frequency[:, -1:]).sum(1)
            arm.add(user, random.random(runs) < habit[np.arange(runs), user])
        if step % 50 == 49:
            for run in range(runs):
                one, two = (moments(arm.counts[run], arm.totals[run]) for arm in arms)
                failed[run] |= not check_ratings(one, two, 0.05, 0).passed
    assert failed.mean() <= 0.05 if student == teacher else failed.mean() >= 0.9
