"""Intervals and tests against published values, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from s2d_ray.evaluation.statistics import at_most, holm, mean, paired, share

IN_FOURS = [name for name in "abcdefghij" for _ in range(4)]
"""Forty observations in ten clusters."""


def hits(successes: int, n: int) -> list[bool]:
    return [i < successes for i in range(n)]


def pairs(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


def test_share_is_the_wilson_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    few, none = share(hits(81, 263)), share(hits(0, 20))
    assert [round(x, 4) for x in (few.low, few.high)] == [0.2553, 0.3662]
    assert [round(x, 4) for x in (none.low, none.high)] == [0.0, 0.1611]


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_where_every_observation_is_a_cluster_all_is_as_without(n: int) -> None:
    names = [str(i) for i in range(n)]
    for successes in range(n + 1):
        found, other = hits(successes, n), hits(n // 2, n)
        usual = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert (share(found, names).low, share(found, names).high) == pytest.approx((usual.low, usual.high))
        exact = stats.binomtest(successes, n).proportion_ci(0.9, method="exact").high
        assert at_most(found, names) == pytest.approx(exact)
        pair = paired(found, other, names)
        assert pair == paired(found, other)
        discordant = pair.first_only + pair.second_only
        assert pair.p_value == pytest.approx(stats.binomtest(pair.first_only, discordant or 1).pvalue)
        assert pair.clusters == share(found).clusters == n


def test_clusters_that_agree_within_are_worth_one_observation_each() -> None:
    one_each = share(hits(5, 10))
    found = share(hits(20, 40), IN_FOURS)
    assert (found.value, found.n, found.clusters) == (0.5, 40, 10)
    # But for what estimating that they agree costs: t with 9 degrees of freedom instead of 39.
    factor = (stats.t.ppf(0.975, 39) / stats.t.ppf(0.975, 9)) ** 2 * (9 / 10) * (40 / 39)
    z2, worth = stats.norm.ppf(0.975) ** 2, 10 * factor
    assert found.high - found.low == pytest.approx((z2 / (worth + z2)) ** 0.5)
    assert found.high - found.low > one_each.high - one_each.low > share(hits(20, 40)).high - share(hits(20, 40)).low


def test_clusters_that_differ_within_as_chance_would_have_it_cost_little() -> None:
    spread = [i % 2 == 0 for i in range(400)]
    names = [i // 4 for i in range(400)]
    wide, plain = share(spread, names), share(spread)
    assert 1 <= (wide.high - wide.low) / (plain.high - plain.low) < 1.05
    counts = [float(i % 4) for i in range(400)]
    assert 1 <= (mean(counts, names).high - mean(counts, names).value) / (mean(counts).high - 1.5) < 1.01


def test_what_never_happened_is_bounded_by_the_number_of_clusters() -> None:
    none = [False] * 40
    assert at_most(none) == pytest.approx(1 - 0.05 ** (1 / 40))
    assert at_most(none, IN_FOURS) > at_most([False] * 10)
    assert share(none, IN_FOURS).high > share([False] * 10).high
    found = paired(none, none, IN_FOURS)
    assert (found.difference, found.p_value) == (0, 1)
    assert found.high == -found.low > paired([False] * 10, [False] * 10).high


def test_one_cluster_of_many_says_nothing() -> None:
    found = share([True, False, True], ["a"] * 3)
    assert (found.low, found.high, found.clusters) == (0, 1, 1)
    assert at_most([False] * 3, ["a"] * 3) == 1
    pair = paired([True] * 3, [False] * 3, ["a"] * 3)
    assert (pair.low, pair.high, pair.p_value) == (-1, 1, 1)
    assert (mean([1, 2, 3], ["a"] * 3).low, mean([1, 2, 3], ["a"] * 3).high) == (2, 2)


def test_the_paired_test_gives_every_cluster_either_sign() -> None:
    # Clusters' sums 3, 2, -1, 0: of the eight choices of signs two give 4 or more, two -4 or less.
    names = [*"aaabbbcccdd"]
    first = [True, True, True, True, True, False, False, False, False, True, False]
    second = [False] * 8 + [True, False, True]
    found = paired(first, second, names)
    assert (found.first_only, found.second_only, found.clusters) == (6, 2, 4)
    assert found.p_value == pytest.approx(4 / 8)
    assert paired(first, second).p_value == pytest.approx(stats.binomtest(6, 8).pvalue)


def test_the_order_and_the_names_of_the_clusters_make_no_difference() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 40)) < 0.5
    order = random.permutation(40)
    there = paired(list(first), list(second), IN_FOURS)
    back = paired(list(first[order]), list(second[order]), [hash(IN_FOURS[i]) for i in order])
    assert (there.low, there.high, there.p_value) == pytest.approx((back.low, back.high, back.p_value))


def test_several_tests_are_adjusted_together() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_nothing_and_names_that_do_not_fit_are_refused() -> None:
    for estimate in (share, at_most):
        with pytest.raises(ValueError, match="no share"):
            estimate([])
    with pytest.raises(ValueError, match="3 observations in 2 clusters"):
        share([True] * 3, ["a", "b"])


def test_mean_interval_is_student_t() -> None:
    values = [3.0, 4.0, 8.0, 9.0]
    expected = stats.t.interval(0.95, 3, loc=6.0, scale=stats.sem(values))
    found = mean(values)
    assert (found.value, found.n) == (6.0, 4)
    assert (found.low, found.high) == pytest.approx(expected)


def test_mean_of_counts_has_no_negative_end_and_one_value_no_width() -> None:
    assert mean([0, 0, 0, 30]).low == 0
    assert (mean([7]).low, mean([7]).high) == (7, 7)
    with pytest.raises(ValueError, match="no values"):
        mean([])


def test_paired_counts_disagreements_and_tests_them_exactly() -> None:
    found = paired(*pairs(36, 12, 2, 0))
    assert (found.n, found.first_only, found.second_only, found.difference) == (50, 12, 2, 0.2)
    # Two-sided binomial: 2 * (1 + 14 + 91) / 2^14.
    assert found.p_value == pytest.approx(2 * 106 / 2**14)
    assert found.significant
    assert not paired(*pairs(36, 7, 5, 2)).significant


def test_paired_mirrors_when_the_arms_change_places() -> None:
    first, second = pairs(20, 9, 4, 7)
    there, back = paired(first, second), paired(second, first)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))


def test_arms_that_never_disagree_are_not_proven_equal() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    found = paired(*pairs(30, 0, 0, 20))
    assert (found.p_value, found.difference) == (1.0, 0.0)
    assert (found.low, found.high) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-6)


def test_paired_interval_reaches_the_end_of_the_scale_but_not_beyond() -> None:
    found = paired(*pairs(0, 5, 0, 0))
    assert found.high == 1.0
    assert 0 < found.low < 1


@pytest.mark.parametrize("cells", [(0.4, 0.2, 0.1, 0.3), (0.85, 0.04, 0.08, 0.03)])
@pytest.mark.parametrize("n", [25, 200])
def test_paired_interval_covers_the_truth_as_often_as_it_says(cells: tuple[float, ...], n: int) -> None:
    random = np.random.default_rng(0)
    truth = cells[1] - cells[2]
    found = [paired(*pairs(*map(int, random.multinomial(n, cells)))) for _ in range(200)]
    assert sum(p.low <= truth <= p.high for p in found) / len(found) > 0.92


def test_paired_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired([True], [True, False])
    with pytest.raises(ValueError, match="no pairs"):
        paired([], [])
