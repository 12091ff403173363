"""Intervals and tests against published values, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from s2d_ray.evaluation.statistics import mean, paired, share


def pairs(both: int, first_only: int, second_only: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


def test_share_is_the_wilson_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert [round(x, 4) for x in (share(81, 263).low, share(81, 263).high)] == [0.2553, 0.3662]
    assert [round(x, 4) for x in (share(0, 20).low, share(0, 20).high)] == [0.0, 0.1611]


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_share_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        share(successes, n)


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
