"""Numbers read well, and say so where there is none."""

from datetime import datetime, timedelta, timezone

import pytest

from s2d_ray.display.formatting import (
    count,
    duration,
    latency,
    moment,
    p_value,
    percent,
    points,
    round_percent,
    significant,
    times,
    tokens,
)
from s2d_ray.evaluation.statistics import Interval


def test_shares_are_written_in_per_cent_and_their_differences_in_points() -> None:
    assert [percent(share) for share in (0, 0.6105, 1)] == ["0.0", "61.1", "100.0"]
    assert [round_percent(share) for share in (0.1, 0.125, 0.6666)] == ["10%", "12.5%", "66.7%"]
    assert [points(share) for share in (0.07, 0, -0.05)] == ["+7.0", "+0.0", "\N{MINUS SIGN}5.0"]
    assert [p_value(p) for p in (0.2, 0.001, 0.0009)] == ["p = 0.200", "p = 0.001", "p < 0.001"]


def test_counts_have_their_thousands_apart() -> None:
    space = "\N{NARROW NO-BREAK SPACE}"
    assert [count(n) for n in (999, 1234567, 12.6, None)] == ["999", f"1{space}234{space}567", "13", "none"]
    assert [tokens(12.34), tokens(None), tokens(None, "many")] == ["12.3", "unknown", "many"]
    assert [significant(n) for n in (0.012345, -1.5, 1234)] == ["0.0123", "-1.5", "1.23e+03"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (119.6, "2 min 0 s"),
        (3599, "59 min 59 s"),
        (5400, "1 h 30 min"),
    ],
)
def test_a_stage_takes_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_answer_takes_milliseconds_or_seconds() -> None:
    assert [latency(s) for s in (0.0123, 0.9, 1, 2.345, 120)] == ["12 ms", "900 ms", "1 s", "2.35 s", "120 s"]


def test_a_ratio_needs_both_sides() -> None:
    def interval(value: float) -> Interval:
        return Interval(value, value, value, 1)

    assert [times(interval(more), interval(2)) for more in (3, 18.9, 19)] == ["1.5", "9.4", "10"]
    assert [times(None, None), times(interval(1), None), times(interval(1), interval(0))] == [None, None, None]


def test_a_moment_is_told_in_utc() -> None:
    assert moment(datetime(2026, 3, 1, 1, 5, tzinfo=timezone(timedelta(hours=2)))) == "2026-02-28 23:05 UTC"
