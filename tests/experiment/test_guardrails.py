"""Guardrails: quick at an outage, patient at the limit, and saying why."""

import inspect
from dataclasses import replace
from math import exp

import numpy as np
import pytest

from s2d_ray.experiment import guardrails
from s2d_ray.experiment.events import RequestEvent
from s2d_ray.experiment.guardrails import Cusum, GuardrailMonitor, needs, requests_to_alarm
from s2d_ray.recipes.serve import Guardrails

GOOD = RequestEvent("s2d-1", 0.0, "student", 1, 0, "answered", 0.2)
FAILED = replace(GOOD, outcome="failed")
SLOW = replace(GOOD, seconds=9.0)
LIMITS = Guardrails(error_rate=0.05, p95_seconds=5.0)


def alarm_after(monitor: GuardrailMonitor, event: RequestEvent, most: int = 1000) -> tuple[int, str]:
    """The same again and again, of one user after the other."""
    for number in range(1, most):
        if reason := monitor.observe(replace(event, cluster=number)):
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
    seen = [monitor.observe(replace(FAILED if i % 4 == 0 else GOOD, cluster=i)) for i in range(400)]
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
        assert [monitor.observe(replace(event, cluster=i)) for i in range(alone - 1)] == [None] * (alone - 1)
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


def test_an_alarm_takes_as_many_in_a_row_as_it_says() -> None:
    for limit in (0.001, 0.05, 0.4):
        cusum = Cusum(limit)
        seen = [cusum.observe(True) for _ in range(needs(limit).in_a_row)]
        assert seen == [False] * (len(seen) - 1) + [True]


@pytest.mark.parametrize(("limit", "share"), [(0.05, 0.1), (0.05, 0.5), (0.2, 0.4), (0.4, 0.8), (0.01, 0.2)])
def test_an_alarm_takes_as_many_requests_as_it_says(limit: float, share: float) -> None:
    random, runs = np.random.default_rng(2), 2000
    cusum = Cusum(limit)
    evidence, requests, quiet = np.zeros(runs), np.zeros(runs), np.ones(runs, bool)
    while quiet.any():
        step = np.where(random.random(runs) < share, cusum.up, -cusum.down)
        evidence = np.maximum(evidence, 0) + step
        requests += quiet
        quiet &= evidence < np.log(guardrails.FALSE_ALARM)
    error = requests.std() / runs**0.5
    assert abs(requests_to_alarm(limit, share) - requests.mean()) < 3 * error + 0.02 * requests.mean()


def test_at_the_limit_an_alarm_takes_a_million_requests_or_more() -> None:
    for limit in (0.01, 0.05, 0.3):
        assert requests_to_alarm(limit, limit) > guardrails.FALSE_ALARM
        assert list(needs(limit).on_average.values()) == sorted(needs(limit).on_average.values(), reverse=True)


def test_the_recipe_s_documentation_has_these_figures() -> None:
    """Docstrings of keys are what a reader of recipes has: their figures are worked out here anew."""
    said = " ".join(inspect.getsource(Guardrails).split())
    five, one = needs(0.05), needs(0.01)
    assert f"takes {five.in_a_row} bad requests in a row" in said
    about = {share: f"{requests:.2g}" for share, requests in five.on_average.items()}
    assert about == {0.1: "6.3e+02", 0.5: "44"}
    assert said.count("630 requests where 10%") == said.count("44 where half") == 2
    assert f"{one.on_average[0.02]:.2g}" == "3.3e+03"
    assert "3300 where 2% fail" in said


@pytest.mark.parametrize(("users", "acts"), [(1, False), (3, False), (4, True)])
def test_failures_of_several_users_are_needed(users: int, acts: bool) -> None:
    """Of a client that is alone, and of one beside others: it cannot roll back for them."""
    for rater, others in ((None, False), (1, False), (1, True)):
        monitor = GuardrailMonitor(LIMITS)
        if others:
            monitor.observe(replace(GOOD, rater=2))
        found = [monitor.observe(replace(FAILED, cluster=i % users, rater=rater)) for i in range(1000)]
        assert any(found) == (acts and not others)


def test_failures_of_several_clients_act_beside_others() -> None:
    monitor = GuardrailMonitor(LIMITS)
    monitor.observe(replace(GOOD, rater=2))
    found = [monitor.observe(replace(FAILED, cluster=i, rater=3 + i % 2)) for i in range(20)]
    assert [bool(reason) for reason in found] == [False] * 19 + [True]


def test_who_is_not_answered_either_or_asks_another_arm_makes_no_client_less_alone() -> None:
    for other in (FAILED, replace(GOOD, version=None), replace(GOOD, arm="base"), replace(GOOD, outcome="refused")):
        monitor, found = GuardrailMonitor(LIMITS), []
        for number in range(30):
            if number % 10 == 0:
                found.append(monitor.observe(replace(other, cluster=1000, rater=2)))
            found.append(monitor.observe(replace(FAILED, cluster=number, rater=1)))
        assert any(found), other


def test_a_client_is_alone_again_once_others_have_not_asked_for_long() -> None:
    monitor = GuardrailMonitor(LIMITS)
    monitor.observe(replace(GOOD, rater=2))
    late = replace(FAILED, time=guardrails.OTHERS_SECONDS + 1, rater=1)
    assert any(monitor.observe(replace(late, cluster=i)) for i in range(20))
