"""The intervals hold at every step at once, by simulation under the null; textbook ones looked at as often do not."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from s2d_ray.experiment import sequences
from s2d_ray.experiment.sequences import (
    MIN_USERS,
    Array,
    Moments,
    amount,
    cumulative,
    difference,
    moments,
    quantile,
    radius,
    rating,
    share_sequence,
)

RUNS, STEPS = 1000, 2500


def steps_of(values: Array) -> Moments:
    """The moments after each value of each run, where every value is another user's."""
    count = np.arange(1, values.shape[-1] + 1) + 0 * values
    total, squares = values.cumsum(-1), (values**2).cumsum(-1)
    return Moments(count, total, squares, total, count)


def ever(hits: Array, moments_: Moments) -> float:
    return float((hits & (moments_.clusters >= MIN_USERS)).any(-1).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "teacher", "margin"),
    [
        (0.45, 0.5, 0.05),
        (0.75, 0.8, 0.05),
        (0.94, 0.99, 0.05),
        (0.979, 0.999, 0.02),
        (0.6, 0.8, 0.2),
        (0.0, 0.05, 0.05),
    ],
)
def test_peeking_at_every_step_goes_wrong_in_at_most_one_run_of_twenty(
    student: float, teacher: float, margin: float
) -> None:
    """At the margin itself, promoting and keeping are both wrong."""
    random = np.random.default_rng(0)
    first, second = (steps_of((random.random((RUNS, STEPS)) < p).astype(float)) for p in (student, teacher))
    error = np.abs(first.mean - second.mean - (student - teacher))
    variance = first.with_doubt().variance + second.with_doubt().variance
    assert ever(error > radius(variance, margin), first) <= 0.05
    # The textbook interval, looked at as often, is wrong far more often: the simulation can tell.
    assert ever(error > 1.96 * variance**0.5, first) > 0.15


def test_users_who_ask_often_do_not_pass_for_many_users() -> None:
    """Under the null, with tastes and frequencies that differ from user to user, at every single rating."""
    runs, steps, users = 200, 1500, 200
    random = np.random.default_rng(1)
    tastes = random.beta(0.6, 0.2, (2, runs, users))
    often = (random.pareto(4.0, (2, runs, users)) + 0.1).cumsum(-1)
    arms = [Clustered(runs, users), Clustered(runs, users)]
    wrong, wrong_if_independent = np.zeros(runs, bool), np.zeros(runs, bool)
    for _ in range(steps):
        for arm, taste, frequency in zip(arms, tastes, often, strict=True):
            user = (frequency < random.random((runs, 1)) * frequency[:, -1:]).sum(1)
            arm.add(user, random.random(runs) < taste[np.arange(runs), user])
        first, second = (arm.moments for arm in arms)
        enough = (np.minimum(first.clusters, second.clusters) >= MIN_USERS) & (first.count > 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(first.mean - second.mean)
            variance = first.with_doubt().variance + second.with_doubt().variance
            independent = first.mean * (1 - first.mean) / first.count + second.mean * (1 - second.mean) / second.count
            wrong |= enough & (error > radius(variance, 0.05))
            wrong_if_independent |= enough & (error > radius(independent, 0.05))
    assert wrong.mean() <= 0.05
    assert wrong_if_independent.mean() > 0.15


class Clustered:
    """Moments of many runs at once, one value more each time."""

    def __init__(self, runs: int, users: int) -> None:
        self.counts, self.totals = np.zeros((runs, users)), np.zeros((runs, users))
        self.moments = moments(self.counts, self.totals)

    def add(self, user: Any, value: Any) -> None:
        at = (np.arange(len(user)), user)
        n, t, m = self.counts[at], self.totals[at], self.moments
        self.counts[at], self.totals[at] = n + 1, t + value
        self.moments = Moments(
            m.count + 1,
            m.total + value,
            m.totals_squared + (t + value) ** 2 - t**2,
            m.totals_by_counts + (t + value) * (n + 1) - t * n,
            m.counts_squared + (n + 1) ** 2 - n**2,
        )


def test_the_variance_is_that_of_the_mean_over_whole_clusters() -> None:
    random = np.random.default_rng(2)
    counts = random.integers(1, 6, (4000, 80)).astype(float)
    tastes = random.beta(2, 2, counts.shape)
    found = moments(counts, random.binomial(counts.astype(int), tastes).astype(float))
    assert float(np.mean(found.variance)) == pytest.approx(float(np.var(found.mean)), rel=0.05)


def test_one_value_per_cluster_gives_the_textbook_variance() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.25, 0.5])
    assert moments(np.ones(5), values).variance == pytest.approx(stats.sem(values) ** 2)


def test_equal_ratings_are_not_certainty() -> None:
    same = moments(np.ones(60), np.ones(60))
    found = difference(same, same, 0.05, 120)
    assert found is not None
    assert found.value == 0
    assert found.low < -0.05 < 0.05 < found.high
    assert same.with_doubt().mean == 62 / 64


def test_too_few_users_give_no_interval_however_much_they_rate() -> None:
    few, many = (moments(np.full(k, 1000.0), np.full(k, 500.0)) for k in (MIN_USERS - 1, MIN_USERS))
    assert rating(few, 0.05) is None
    assert amount(few) is None
    assert difference(few, many, 0.05, 9) is difference(many, few, 0.05, 9) is None
    found = rating(many, 0.05)
    assert found is not None
    assert found.n == 1000 * MIN_USERS


def test_ratings_and_differences_stay_on_their_scale() -> None:
    low, high = moments(np.ones(60), np.zeros(60)), moments(np.ones(60), np.ones(60))
    found = [rating(low, 0.05), rating(high, 0.05), difference(low, high, 0.05, 120), difference(high, low, 0.05, 120)]
    ends = [(i.low, i.value, i.high, i.n) for i in found if i]
    assert [end[1] for end in ends] == [0, 1, -1, 1]
    assert (ends[0][0], ends[1][2], ends[2][0], ends[3][2]) == (0, 1, -1, 1)
    assert [end[3] for end in ends] == [60, 60, 120, 120]


def test_the_sequence_is_narrowest_in_standard_errors_where_it_is_as_wide_as_the_margin() -> None:
    errors = np.geomspace(1e-4, 1, 4001)
    widths = radius(errors**2, 0.05)
    assert widths[(widths / errors).argmin()] == pytest.approx(0.05, rel=0.01)
    assert (widths / errors).min() == pytest.approx(sequences.REACH, rel=1e-6)
    assert 2.9 < sequences.REACH < 3.2


@pytest.mark.slow
def test_amounts_are_covered_at_every_step() -> None:
    random = np.random.default_rng(3)
    values = random.lognormal(3, 0.7, (300, 1500))
    found = steps_of(values)
    wrong = np.zeros(300, bool)
    truth = np.exp(3 + 0.7**2 / 2)
    for step in range(MIN_USERS, 1500, 10):
        for run in range(300):
            at = Moments(*(getattr(found, name)[run, step] for name in Moments.__slots__))
            interval = amount(at)
            assert interval is not None
            wrong[run] |= not interval.low <= truth <= interval.high
    assert wrong.mean() <= 0.05


@pytest.mark.parametrize("truth", [0.002, 0.03, 0.5])
def test_shares_are_covered_at_every_step(truth: float) -> None:
    random = np.random.default_rng(4)
    successes = (random.random((RUNS, STEPS)) < truth).cumsum(-1)
    n = np.arange(1, STEPS + 1)
    assert steps_of(np.eye(1, STEPS)).independent == pytest.approx(n[None])
    evidence = sequences._evidence_against(truth, successes, n)
    assert (evidence > np.log(20)).any(-1).mean() <= 0.05
    # The ends of `share_sequence` are where that evidence is reached.
    for run in range(20):
        found = share_sequence(of_one_each(int(successes[run, -1]), STEPS))
        assert found is not None
        assert (found.low <= truth <= found.high) == bool(evidence[run, -1] <= np.log(20))


def test_shares_of_none_and_of_all() -> None:
    none, every = share_sequence(of_one_each(0, 50)), share_sequence(of_one_each(50, 50))
    assert none is not None
    assert every is not None
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(1 - every.low)
    # Nothing seen in n: the mixture's (n + 1) (1 - p)^n reaches 1/20.
    assert 51 * (1 - none.high) ** 50 == pytest.approx(1 / 20)
    assert share_sequence(of_one_each(0, 0)) is None


def of_one_each(successes: int, n: int) -> Moments:
    """Of that many users with one event each."""
    return moments(np.ones(n), (np.arange(n) < successes).astype(float))


def test_users_who_never_failed_are_worth_one_event_each_however_often_they_asked() -> None:
    once, often = share_sequence(of_one_each(0, 100)), share_sequence(moments(np.full(100, 50.0), np.zeros(100)))
    assert once is not None
    assert often is not None
    assert often.high == pytest.approx(once.high)
    assert often.n == 5000


def test_a_single_user_says_next_to_nothing() -> None:
    found = share_sequence(moments(np.array([1000.0]), np.array([10.0])))
    assert found is not None
    assert found.low < 0.001
    assert found.high > 0.9


def equal(random: Any, shape: tuple[int, int]) -> Array:
    return np.ones(shape)


def zipf(random: Any, shape: tuple[int, int]) -> Array:
    return 1 / np.arange(1, shape[1] + 1) + np.zeros(shape)


def pareto(random: Any, shape: tuple[int, int]) -> Array:
    return np.asarray(random.pareto(1.5, shape)) + 0.1


@pytest.mark.long
@pytest.mark.parametrize("users", [3, 30, 300])
@pytest.mark.parametrize("frequency", [equal, zipf, pareto])
@pytest.mark.parametrize(
    ("mean", "alike"), [(0.0, 1.0), (0.02, 1e9), (0.02, 1.0), (0.05, 5.0), (0.05, 0.0), (0.95, 3.0), (0.5, 2.0)]
)
def test_shares_of_heavy_users_are_covered_at_every_request(
    users: int, frequency: Any, mean: float, alike: float
) -> None:
    """Each user fails as often as a beta distribution says: all alike if `alike` is large, always or never if 0."""
    wrong, wrong_if_independent = ever_wrong(users, frequency, mean, alike)
    assert wrong <= 0.05 + SIMULATION_ERROR
    if frequency is not equal and 0 < mean < 1 and alike < 5:
        assert wrong_if_independent > 0.15


@pytest.mark.slow
def test_the_error_interval_is_not_wrong_for_heavy_users() -> None:
    wrong, wrong_if_independent = ever_wrong(200, zipf, 0.02, 1.0, runs=200, steps=4000)
    assert wrong <= 0.05
    assert wrong_if_independent > 0.45


SIMULATION_ERROR = 0.02
"""Two standard errors of a share of 5% in 400 runs."""


def ever_wrong(
    users: int, frequency: Any, mean: float, alike: float, runs: int = 400, steps: int = 2000
) -> tuple[float, float]:
    """Share of runs where the interval ever misses the mean over users; and so where requests pass for independent."""
    random = np.random.default_rng(7)
    often = frequency(random, (runs, users))
    rates = (random.random(often.shape) < mean).astype(float)
    if alike and mean:
        rates = random.beta(mean * alike, (1 - mean) * alike, often.shape)
    often = (often / often.sum(1, keepdims=True)).cumsum(1)
    arm, wrong, wrong_if_independent = Clustered(runs, users), np.zeros(runs, bool), np.zeros(runs, bool)
    for _ in range(steps):
        user = np.minimum((often < random.random((runs, 1))).sum(1), users - 1)
        arm.add(user, random.random(runs) < rates[np.arange(runs), user])
        m = arm.moments
        for found, worth in ((wrong, m.independent), (wrong_if_independent, m.count)):
            found |= sequences._evidence_against(mean, m.mean * worth, worth) > np.log(20)
    return float(wrong.mean()), float(wrong_if_independent.mean())


EDGES = np.geomspace(1e-3, 1e4, 815)


def below(values: Array, clusters: Any) -> Moments:
    """What lies below each edge, of values of such clusters."""
    histograms = np.zeros((int(clusters.max()) + 1, len(EDGES) - 1))
    np.add.at(histograms, (clusters, np.searchsorted(EDGES, values) - 1), 1)
    return cumulative(histograms)


@pytest.mark.long
@pytest.mark.parametrize("q", [0.5, 0.95])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_quantiles_of_heavy_users_are_covered_at_every_look(q: float, spread: float) -> None:
    """Latency varies from request to request, and from user to user by `spread`; how often users ask follows Zipf."""
    random, users = np.random.default_rng(5), 200
    truth = float(np.exp(stats.norm.ppf(q) * (1 + spread**2) ** 0.5))
    often = 1 / np.arange(1, users + 1)
    wrong = wrong_if_independent = 0
    for _ in range(100):
        who = random.choice(users, 2000, p=often / often.sum())
        values = random.lognormal(random.normal(0, spread, users)[who] if spread else 0.0, 1.0, 2000)
        looks = range(50, 2001, 50)
        wrong += any(missed(below(values[:n], who[:n]), q, truth) for n in looks)
        wrong_if_independent += any(missed(below(values[:n], np.arange(n)), q, truth) for n in looks[::4])
    assert wrong <= 5 + 2
    if spread:
        assert wrong_if_independent > 15


def missed(below: Moments, q: float, truth: float) -> bool:
    found = quantile(below, EDGES, q)
    return found is None or not found.low <= truth <= found.high


def test_quantiles_are_those_of_the_values_up_to_a_bin() -> None:
    values = np.random.default_rng(6).lognormal(0, 1, 5000)
    for q in (0.5, 0.95):
        found = quantile(below(values, np.arange(5000)), EDGES, q)
        assert found is not None
        assert found.value == pytest.approx(np.quantile(values, q), rel=0.02)
        assert found.low < found.value < found.high < 1.25 * found.value
    one = quantile(below(np.array([2.0]), np.array([0])), EDGES, 0.95)
    assert one is not None
    assert (one.low, one.high, one.n) == (EDGES[0], EDGES[-1], 1)
    assert one.value == pytest.approx(2.0, rel=0.02)
    assert quantile(cumulative(np.zeros((3, len(EDGES) - 1))), EDGES, 0.5) is None
