"""Guardrails: quick at an outage, patient at the limit, and saying why."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest

from s2d_ray.experiment import guardrails
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.experiment.guardrails import Cusum, GuardrailMonitor
from s2d_ray.recipes.serve import Guardrails

GOOD = RequestEvent("s2d-1", 0.0, "student", 1, 0, "answered", 0.2)
FAILED = replace(GOOD, outcome="failed")
SLOW = replace(GOOD, seconds=9.0)
LIMITS = Guardrails(error_rate=0.05, p95_seconds=5.0)


def alarm_after(monitor: GuardrailMonitor, event: RequestEvent, most: int = 1000) -> tuple[int, str]:
    for number in range(1, most):
        if reason := monitor.observe(event):
            return number, reason
    return most, ""


def test_an_outage_rolls_back_within_seconds_even_after_a_long_good_time() -> None:
    monitor = GuardrailMonitor(LIMITS)
    assert not any(monitor.observe(GOOD) for _ in range(50_000))
    number, reason = alarm_after(monitor, FAILED)
    assert 15 < number <= 25
    assert reason == f"Distilled System 1: {number} of the latest {number} requests failed, above 5%"


def test_slow_answers_roll_back() -> None:
    number, reason = alarm_after(GuardrailMonitor(LIMITS), SLOW)
    assert number <= 25
    assert reason == f"Distilled System 1: {number} of the latest {number} requests took longer than 5 s, above 5%"


def test_the_reason_counts_the_good_requests_among_the_bad() -> None:
    monitor = GuardrailMonitor(LIMITS)
    seen = [monitor.observe(FAILED if i % 4 == 0 else GOOD) for i in range(400)]
    reason = next(reason for reason in seen if reason)
    assert seen.index(reason) < 200
    number = seen.index(reason) + 1
    assert f"{number // 4 + 1} of the latest {number} requests failed" in reason


@pytest.mark.parametrize(
    "event",
    [
        replace(FAILED, arm="teacher"),
        replace(FAILED, version=None),
        replace(GOOD, outcome="refused"),
        replace(SLOW, outcome="cancelled"),
        replace(GOOD, seconds=4.9),
    ],
)
def test_what_says_nothing_against_an_arm_does_not_count(event: RequestEvent) -> None:
    assert alarm_after(GuardrailMonitor(LIMITS), event) == (1000, "")


def test_a_limit_that_is_not_set_is_not_watched() -> None:
    assert (
        alarm_after(GuardrailMonitor(Guardrails(error_rate=None, p95_seconds=None)), replace(FAILED, seconds=99))[1]
        == ""
    )


def test_arms_are_watched_apart() -> None:
    monitor = GuardrailMonitor(LIMITS)
    alone, _ = alarm_after(GuardrailMonitor(LIMITS), FAILED)
    for event in (FAILED, replace(FAILED, arm="base")):
        assert [monitor.observe(event) for _ in range(alone - 1)] == [None] * (alone - 1)
    reason = monitor.observe(replace(FAILED, arm="base"))
    assert reason
    assert reason.startswith("System 1 (base): ")


def test_after_an_alarm_it_starts_anew() -> None:
    monitor = GuardrailMonitor(LIMITS)
    first, _ = alarm_after(monitor, FAILED)
    assert monitor.observe(GOOD) is None
    assert alarm_after(monitor, FAILED)[0] == first


def test_at_the_limit_the_evidence_is_a_fair_bet() -> None:
    good, bad = Cusum(0.05), Cusum(0.05)
    good.observe(False)
    bad.observe(True)
    assert 0.95 * exp(good.evidence) + 0.05 * exp(bad.evidence) == pytest.approx(1)
    assert bad.evidence > 0 > good.evidence


@pytest.mark.slow
def test_at_the_limit_false_alarms_are_as_rare_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails, "FALSE_ALARM", 200)
    random = np.random.default_rng(0)
    runs = []
    for _ in range(200):
        cusum, number = Cusum(0.05), 1
        while not cusum.observe(bool(random.random() < 0.05)):
            number += 1
        runs.append(number)
    assert np.mean(runs) >= 200


def test_clearly_above_the_limit_it_takes_some_hundred_requests() -> None:
    random = np.random.default_rng(1)
    runs = []
    for _ in range(100):
        cusum, number = Cusum(0.05), 1
        while not cusum.observe(bool(random.random() < 0.15)):
            number += 1
        runs.append(number)
    assert np.mean(runs) < 500
