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
from s2d_ray.experiment.sequences import Moments, moments
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
    assert check_ratings(moments(np.zeros(9), np.zeros(9)), moments(np.zeros(9), np.zeros(9)), (0, 0)).passed


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


def of_clusters(share: float, answers: int, clusters: int = CLUSTERS, weight: float = 1.0) -> Moments:
    """Of clusters with as many answers each, of which that share is rated, as chance has it."""
    each = answers // clusters
    random = np.random.default_rng(answers)
    return moments(np.full(clusters, weight * each), np.asarray(weight * random.binomial(each, share, clusters), float))


def passes(student: Moments, teacher: Moments, answers: tuple[int, int]) -> list[bool]:
    """Whether it passes as it is, and with the arms exchanged."""
    both = ((student, teacher, answers), (teacher, student, answers[::-1]))
    return [check_ratings(*arms).passed for arms in both]


@pytest.mark.parametrize(("student", "teacher"), [(0.005, 0.01), (0.001, 0.002), (0.05, 0.06), (0.3, 0.36), (0.7, 0.9)])
def test_shares_that_differ_by_a_fifth_and_more_fail_however_small_they_are(student: float, teacher: float) -> None:
    answers = 2_000_000
    one, two = of_clusters(student, answers), of_clusters(teacher, answers)
    assert passes(one, two, (answers, answers)) == [False, False]
    found = check_ratings(one, two, (answers, answers))
    assert found.ratio is not None
    assert found.ratio.low < student / teacher < found.ratio.high
    assert found.ratio.value == pytest.approx(student / teacher, rel=0.05)
    assert found.ratio.n == 2 * answers
    assert found.rated == pytest.approx({"student": student, "teacher": teacher}, rel=0.05)


@pytest.mark.parametrize(("student", "teacher"), [(0.2, 0.207), (0.005, 0.0053), (0.9, 0.95), (0.5, 0.5)])
def test_a_difference_that_does_not_matter_passes_however_sure_it_is(student: float, teacher: float) -> None:
    for answers in (10_000, 1_000_000, 1_000_000_000):
        arms = of_clusters(student, answers), of_clusters(teacher, answers)
        assert passes(*arms, (answers, answers)) == [True, True]


def test_an_arm_without_a_rating_fails_once_the_other_has_a_few() -> None:
    none = of_clusters(0.0, 10_240)
    assert passes(none, of_clusters(0.03, 10_240), (10_240, 10_240)) == [False, False]
    few = check_ratings(none, of_clusters(0.003, 10_240), (10_240, 10_240))
    assert few.ratio is None, "too few raters to tell"
    assert few.passed


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_what_answers_weigh_says_nothing_of_how_often_they_are_rated(share: float) -> None:
    """The student has few of the users: each of its answers weighs more."""
    n = 51_200, 972_800
    teacher = of_clusters(0.01, n[1], weight=0.05)
    found = [check_ratings(of_clusters(share, n[0], weight=w), teacher, n).ratio for w in (0.95, 1.0, 0.01)]
    ends = [(ratio.low, ratio.high) for ratio in found if ratio]
    assert ends[1:] == [pytest.approx(ends[0], rel=0.2)] * 2
    assert found[0] is not None
    assert (found[0].low <= 1 <= found[0].high) == (share > 0)


def test_few_raters_leave_the_ratio_near_one() -> None:
    """What is added for doubt must not itself look like more ratings in the arm that has fewer answers."""
    student, teacher = moments(np.ones(400), (np.arange(400) < 4).astype(float)), of_clusters(0.01, 1_024_000)
    found = check_ratings(student, teacher, (400, 1_024_000))
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), [(0.3, 0.3), (0.5, 0.3)])
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
                failed[run] |= not check_ratings(one, two, (step + 1, step + 1)).passed
    assert failed.mean() <= 0.05 if student == teacher else failed.mean() >= 0.9


def ever_unequal(
    rates: tuple[float, float], alike: float, runs: int, student: float = 0.5, looks: int = 40, users: int = 20_000
) -> float:
    """Share of experiments in which the check ever fails: a look every thousand answers, weights as `/ab` has them.

    Users rate as often as a beta distribution says: all alike where `alike` is large, always or never where it is 0.
    """
    random, failed = np.random.default_rng(4), 0
    shares, weights = (student, 1 - student), (1 - student, student)
    for _ in range(runs):
        sizes = [int(users * share) for share in shares]
        often = [random.pareto(4.0, size) + 0.1 for size in sizes]
        habits = [random.beta(alike * p, alike * (1 - p), size) for p, size in zip(rates, sizes, strict=True)]
        counts, totals = ([np.zeros(size) for size in sizes] for _ in range(2))
        for _ in range(looks):
            for arm, share in enumerate(shares):
                new = random.poisson(1000 * share * often[arm] / often[arm].sum())
                counts[arm] += new
                totals[arm] += random.binomial(new, habits[arm])
            one, two = (moments(w * n, w * t) for w, n, t in zip(weights, counts, totals, strict=True))
            if not check_ratings(one, two, (int(counts[0].sum()), int(counts[1].sum()))).passed:
                failed += 1
                break
    return failed / runs


@pytest.mark.slow
def test_a_half_of_a_percent_in_place_of_one_is_found_within_40_000_answers() -> None:
    assert ever_unequal((0.005, 0.01), 1e6, runs=30) >= 0.9


@pytest.mark.long
@pytest.mark.parametrize("student", [0.5, 0.05])
@pytest.mark.parametrize("alike", [1e6, 4.0, 0.1])
@pytest.mark.parametrize("rates", [(0.005, 0.005), (0.02, 0.02), (0.3, 0.3), (0.022, 0.02), (0.02, 0.022), (0.33, 0.3)])
def test_ratings_within_the_tolerance_fail_in_at_most_one_experiment_of_twenty(
    rates: tuple[float, float], alike: float, student: float
) -> None:
    """Rated alike, or one arm just 1.1 times as often, which may still pass."""
    assert ever_unequal(rates, alike, 200, student, users=5000) <= 0.05


@pytest.mark.long
@pytest.mark.parametrize(("rates", "alike"), [((0.005, 0.01), 1e6), ((0.04, 0.02), 4.0), ((0.3, 0.4), 4.0)])
def test_ratings_that_differ_by_a_third_and_more_are_found(rates: tuple[float, float], alike: float) -> None:
    assert ever_unequal(rates, alike, 100, looks=60) >= 0.9
