"""Charts keep to their box, scale to what matters and mark round values."""

import re

import pytest

from s2d_ray.display.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, chart
from s2d_ray.evaluation.statistics import Interval

HOUR = 3600.0


def interval(value: float, reach: float) -> Interval:
    return Interval(value, value - reach, value + reach, 10)


def drawn(series: dict[str, list[tuple[float, Interval]]], seconds: float, **levels: float) -> Chart:
    found = chart(series, seconds, levels)
    assert found is not None
    return found


def test_nothing_to_draw_is_no_chart() -> None:
    assert chart({"a": [], "b": []}, HOUR, {"zero": 0.0}) is None


def test_every_point_is_in_the_box_and_the_wide_beginning_does_not_set_the_scale() -> None:
    points = [(HOUR * i, interval(0.8, 0.5 / i)) for i in range(1, 21)]
    found = drawn({"a": points}, 20 * HOUR)
    for x, y in re.findall(r"(\S+),(\S+)", found.lines[0].points + " " + found.lines[0].band):
        assert LEFT <= float(x) <= WIDTH - RIGHT
        assert TOP <= float(y) <= HEIGHT - BOTTOM
    assert [tick.label for tick in found.y_ticks] == ["74%", "76%", "78%", "80%", "82%", "84%", "86%"]
    assert found.lines[0].x == WIDTH - RIGHT


def test_higher_is_further_up_and_later_further_right() -> None:
    found = drawn({"a": [(0, interval(0.2, 0.1)), (HOUR, interval(0.6, 0.1))]}, HOUR)
    (x0, y0), (x1, y1) = [tuple(map(float, point.split(","))) for point in found.lines[0].points.split()]
    assert x1 > x0
    assert y1 < y0
    assert (found.lines[0].x, found.lines[0].y) == (x1, y1)
    assert [tick.at for tick in found.y_ticks] == sorted((tick.at for tick in found.y_ticks), reverse=True)
    assert len(found.lines[0].band.split()) == 4


def test_levels_are_in_view_and_in_points() -> None:
    found = drawn({"d": [(HOUR, interval(0.01, 0.005))]}, HOUR, zero=0.0, margin=-0.05)
    assert TOP <= found.levels["zero"] < found.levels["margin"] <= HEIGHT - BOTTOM
    assert [tick.label for tick in found.y_ticks] == [
        "\N{MINUS SIGN}6",
        "\N{MINUS SIGN}4",
        "\N{MINUS SIGN}2",
        "0",
        "+2",
    ]


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (1, ["0", "1 s"]),
        (50, ["0", "10 s", "20 s", "30 s", "40 s", "50 s"]),
        (2 * HOUR + 60, ["0", "1 h", "2 h"]),
        (100 * 60, ["0", "20 min", "40 min", "60 min", "80 min", "100 min"]),
        (60 * HOUR, ["0", "1 d", "2 d"]),
        (90 * 24 * HOUR, ["0", "20 d", "40 d", "60 d", "80 d"]),
    ],
)
def test_times_are_round(seconds: float, labels: list[str]) -> None:
    assert [tick.label for tick in drawn({"a": [(0, interval(0.5, 0.1))]}, seconds).x_ticks] == labels


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_interval_without_width_can_be_drawn(value: float) -> None:
    found = drawn({"a": [(0, interval(value, 0.0))]}, HOUR)
    assert len(found.y_ticks) >= 2
    assert TOP <= found.lines[0].y <= HEIGHT - BOTTOM
