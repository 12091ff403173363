"""The summary of a store is what counting its events one by one gives."""

import json
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.experiment.assignment import CELLS, CLUSTERS
from s2d_ray.experiment.events import FeedbackEvent, RequestEvent, ShadowEvent
from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.sequences import Moments, difference, moments, rating
from s2d_ray.experiment.state import Change
from s2d_ray.experiment.store import EventStore
from s2d_ray.experiment.summary import Summary, summarise
from s2d_ray.recipes.serve import Serve, Weights
from tests.experiment.traffic import START, counted, rated, requests

MARGIN = 0.05
WEIGHTS = Weights(student=0.4, base=0.1)
SERVE = Serve(weights=WEIGHTS, margin=MARGIN)
TRAFFIC = requests(3000, WEIGHTS, users=600)
NOW = START + timedelta(hours=60)
REQUEST = RequestEvent("s2d-1", START.timestamp() + 60, "student", 1, 5, "answered", 0.25)


def summary_of(folder: Path) -> Summary:
    state = Experiment(folder / "experiment.json", SERVE, START).state
    return summarise(counted(folder, state), state, SERVE, NOW)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """Of traffic spread over two writers, with its feedback written before its requests and half of it unflushed."""
    folder = tmp_path_factory.mktemp("store")
    first, second = EventStore(folder), EventStore(folder)
    for _, feedback, shadow in TRAFFIC:
        for event in (feedback, shadow):
            if event is not None:
                first.add(event)
    first.flush()
    for number, (request, _, _) in enumerate(TRAFFIC):
        (first if number % 2 else second).add(request)
    second.flush()
    found = summary_of(folder)
    first.close()
    assert summary_of(folder) == found
    return found


@pytest.mark.parametrize("arm", LABELS)
def test_counts_and_means_are_those_of_the_events(summary: Summary, arm: CoreArm) -> None:
    found = summary.arms[arm]
    own = [(request, feedback) for request, feedback, _ in TRAFFIC if request.arm == arm]
    answered = [request for request, _ in own if request.outcome == "answered"]
    assert found.requests == len(own) == sum(found.outcomes.values())
    assert found.outcomes["answered"] == len(answered)
    assert found.ratings == sum(feedback is not None for _, feedback in own)
    assert found.raters == len({request.cluster % CLUSTERS for request, feedback in own if feedback})
    assert found.tokens is not None
    assert found.tokens.value == pytest.approx(np.mean([request.completion_tokens for request in answered]))
    assert found.cost_per_1000 == pytest.approx(1000 * np.mean([request.cost or 0 for request in answered]))
    assert found.errors is not None
    assert found.errors.value == pytest.approx(1 - len(answered) / len(own))
    agreements = [shadow.agreement or 0.0 for _, _, shadow in TRAFFIC if shadow and shadow.arm == arm]
    assert (found.agreement is None) == (len(agreements) < 50)
    assert found.agreement is None or found.agreement.value == pytest.approx(np.mean(agreements))


@pytest.mark.parametrize("arm", LABELS)
def test_latencies_are_quantiles_of_the_answered(summary: Summary, arm: CoreArm) -> None:
    found = summary.arms[arm]
    answered = [request for request, _, _ in TRAFFIC if request.arm == arm and request.outcome == "answered"]
    assert found.seconds is not None
    for interval, q in ((found.seconds.p50, 0.5), (found.seconds.p95, 0.95)):
        assert interval.value == pytest.approx(np.quantile([request.seconds for request in answered], q), rel=0.03)
        assert interval.n == len(answered)
    assert found.first_token_seconds is not None
    assert found.first_token_seconds.p50.value == pytest.approx(answered[0].first_token_seconds, rel=0.02)


def test_quality_and_difference_are_those_of_the_ratings_by_cluster(summary: Summary) -> None:
    of = {arm: opinions(arm, NOW.timestamp()) for arm in LABELS}
    for arm in LABELS:
        expected_quality = rating(of[arm], MARGIN)
        assert expected_quality is not None
        assert summary.arms[arm].quality == replace(expected_quality, n=summary.arms[arm].ratings)
    # The weights never changed, so that every rating counts alike.
    found, n = summary.difference, summary.arms["student"].ratings + summary.arms["teacher"].ratings
    expected = difference(of["student"], of["teacher"], MARGIN, n)
    assert found is not None
    assert expected is not None
    near = pytest.approx((expected.value, expected.low, expected.high), abs=1e-6)
    assert (found.value, found.low, found.high) == near
    assert found.n == n


def test_quality_over_time_counts_what_had_come_in_by_then(summary: Summary) -> None:
    assert [point.at for point in summary.over_time] == sorted(point.at for point in summary.over_time)
    assert summary.over_time[-1].at == NOW.timestamp()
    assert summary.over_time[0].quality == {}
    middle = summary.over_time[len(summary.over_time) // 2]
    for arm in ("student", "teacher"):
        expected, found = rating(opinions(arm, middle.at), MARGIN), middle.quality[arm]
        assert expected is not None
        assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def opinions(arm: str, until: float) -> Moments:
    """Of every rater one: the mean of what it gave up to then."""
    counts, totals = np.zeros(CLUSTERS), np.zeros(CLUSTERS)
    for request, feedback, _ in TRAFFIC:
        if feedback and request.arm == arm and feedback.time < until:
            counts[request.cluster % CLUSTERS] += 1
            totals[request.cluster % CLUSTERS] += feedback.score
    return moments(np.minimum(counts, 1), totals / np.maximum(counts, 1))


def stored(folder: Path, *events: RequestEvent | FeedbackEvent | ShadowEvent) -> Summary:
    store = EventStore(folder)
    for event in events:
        store.add(event)
    store.close()
    return summary_of(folder)


def test_a_hard_day_is_not_held_against_the_arm_that_had_more_of_it(tmp_path: Path) -> None:
    """Both arms are rated 0.9, then 0.5; the student gets a tenth of the first ratings and half of the second."""
    random = np.random.default_rng(0)
    store = EventStore(tmp_path)
    for number in range(12_000):
        version, quality, share = (1, 0.9, 0.1) if number < 6000 else (2, 0.5, 0.5)
        arm: CoreArm = "student" if random.random() < share else "teacher"
        request = replace(
            REQUEST, request_id=f"s2d-{number}", arm=arm, version=version, cluster=int(random.integers(CLUSTERS))
        )
        store.add(request)
        store.add(rated(request, float(random.random() < quality)))
    experiment = Experiment(tmp_path / "experiment.json", Serve(weights=Weights(student=0.1)), START)
    experiment.apply(Change(action="weights", weights=Weights(), who="ada", why="more", version=1), START)
    found = summarise(counted(tmp_path, experiment.state), experiment.state, SERVE, NOW)
    one, two = (found.arms[arm].quality for arm in ("student", "teacher"))
    assert found.difference is not None
    assert one is not None
    assert two is not None
    assert one.high < two.low - MARGIN
    assert found.difference.low < 0 < found.difference.high
    assert abs(found.difference.value) < 0.03
    store.close()


def test_a_version_that_is_newer_than_the_state_read_counts_like_the_latest(tmp_path: Path) -> None:
    newer = replace(REQUEST, version=7)
    found = stored(tmp_path, newer, rated(newer, 1.0))
    assert found.arms["student"].ratings == 1


def test_a_summary_can_be_written_as_json(summary: Summary) -> None:
    assert json.loads(json.dumps(asdict(summary), allow_nan=False))["arms"]["student"]["ratings"] > 0


def test_an_empty_store_has_a_summary(tmp_path: Path) -> None:
    found = stored(tmp_path)
    assert found.difference is None
    for arm in found.arms.values():
        assert (arm.requests, arm.ratings, arm.raters, arm.asked_by_name) == (0, 0, 0, 0)
        assert [arm.quality, arm.seconds, arm.tokens, arm.errors, arm.cost_per_1000, arm.escalated] == [None] * 6


def test_only_the_first_feedback_to_a_request_counts(tmp_path: Path) -> None:
    """In whatever order it is stored. A hundred other users, who rate 0, make it enough for an interval."""
    others = [replace(REQUEST, request_id=f"s2d-other-{cluster}", cluster=cluster) for cluster in range(100, 200)]
    zeros = [rated(other, 0.0) for other in others]
    later, earlier = rated(REQUEST, 0.5), replace(rated(REQUEST, 1.0), time=REQUEST.time + 1)
    found = stored(tmp_path, later, earlier, REQUEST, *others, *zeros).arms["student"]
    assert (found.ratings, found.raters) == (101, 101)
    assert found.quality is not None
    assert found.quality.value == pytest.approx(1 / 101)


def test_a_request_that_asked_for_its_arm_is_not_part_of_the_comparison(tmp_path: Path) -> None:
    named = replace(REQUEST, version=None)
    found = stored(tmp_path, named, rated(named, 1.0)).arms["student"]
    assert (found.requests, found.asked_by_name, found.ratings) == (0, 1, 0)
    assert found.seconds is None


def test_refused_and_cancelled_requests_are_counted_but_neither_as_errors_nor_as_latency(tmp_path: Path) -> None:
    events = [
        replace(REQUEST, request_id=outcome, outcome=outcome, seconds=50.0) for outcome in ("refused", "cancelled")
    ]
    found = stored(tmp_path, REQUEST, *events).arms["student"]
    assert found.outcomes == {"answered": 1, "failed": 0, "refused": 1, "cancelled": 1}
    assert found.errors is not None
    assert (found.errors.value, found.errors.n) == (0, 1)
    assert found.seconds is not None
    assert found.seconds.p50.n == 1
    assert found.seconds.p50.value == pytest.approx(0.25, rel=0.02)


def test_an_escalated_answer_counts_for_the_arm_that_passed_it_on(tmp_path: Path) -> None:
    escalated = replace(REQUEST, request_id="s2d-2", escalated=True, completion_tokens=40)
    found = stored(tmp_path, REQUEST, escalated).arms
    assert (found["student"].requests, found["student"].escalated) == (2, 0.5)
    assert found["teacher"].requests == 0


def test_a_shadow_that_failed_says_nothing_about_agreement(tmp_path: Path) -> None:
    shadows = [ShadowEvent(f"s2d-{i}", 1.0, "student", "teacher", i, 0.5 if i < 60 else None, 1.0) for i in range(100)]
    agreement = stored(tmp_path, *shadows).arms["student"].agreement
    assert agreement is not None
    assert (agreement.value, agreement.n) == (0.5, 60)


def test_one_user_who_asks_often_makes_errors_and_times_no_surer(tmp_path: Path) -> None:
    """Sixty users ask once each; one more a thousand times, is answered slowly and every second time not."""
    others = [replace(REQUEST, request_id=f"s2d-{i}", cluster=i) for i in range(60)]
    heavy = [
        replace(REQUEST, request_id=f"s2d-heavy-{i}", cluster=99, seconds=9.0, outcome=("answered", "failed")[i % 2])
        for i in range(1000)
    ]
    found = stored(tmp_path, *others, *heavy).arms["student"]
    assert found.errors is not None
    assert found.errors.value == pytest.approx(500 / 1060)
    assert found.errors.n == 1060
    assert found.errors.high - found.errors.low > 0.8
    assert found.seconds is not None
    assert found.seconds.p50.value == pytest.approx(9.0, rel=0.02)
    assert found.seconds.p50.low <= 0.25 * 1.02


def test_the_checks_count_users_and_rated_answers(summary: Summary) -> None:
    first = {request.cluster: request.arm for request, _, _ in reversed(TRAFFIC) if request.cluster >= CLUSTERS}
    assert summary.assignment.users == len(first)
    assert summary.assignment.planned == pytest.approx({"base": 0.1, "teacher": 0.5, "student": 0.4})
    for arm in LABELS:
        assert summary.assignment.seen[arm] == pytest.approx(list(first.values()).count(arm) / len(first))
    for arm in ("student", "teacher"):
        answers, of_them = np.zeros(CLUSTERS), np.zeros(CLUSTERS)
        for request, feedback, _ in TRAFFIC:
            if request.arm == arm:
                answers[request.cluster % CLUSTERS] += request.outcome == "answered"
                of_them[request.cluster % CLUSTERS] += feedback is not None
        share = np.minimum(of_them, answers)[answers > 0] / answers[answers > 0]
        assert summary.rating.rated[arm] == pytest.approx(share.mean())
    assert summary.assignment.passed
    assert summary.rating.passed
    assert summary.failed_checks == []


def test_users_whose_arm_is_still_answering_are_not_missed(tmp_path: Path) -> None:
    """Half a minute ago many came at once: the student has answered its own, the teacher has not."""
    came = NOW.timestamp() - 30
    students = [replace(REQUEST, request_id=f"s2d-{i}", time=came, cluster=CLUSTERS + i) for i in range(100)]
    assert stored(tmp_path, *students).assignment.users == 0
    store = EventStore(tmp_path)
    for i, request in enumerate(students):
        store.add(replace(request, request_id=f"s2d-early-{i}", time=came - 31))
    store.close()
    found = summary_of(tmp_path)
    assert found.assignment.users == 100
    assert found.failed_checks == ["users are not assigned as planned"]


def of_clients(ratings: list[tuple[int, int, float]]) -> list[RequestEvent | FeedbackEvent]:
    """Requests of so many users of a client to each arm, with the score that it gives the student's; the teacher's get
    the opposite."""
    events: list[RequestEvent | FeedbackEvent] = []
    for client, users, score in ratings:
        for user in range(users):
            arm: CoreArm = "student" if user % 2 else "teacher"
            request = replace(
                REQUEST,
                request_id=f"s2d-{client}-{user}",
                arm=arm,
                cluster=(97 * user) % CELLS,
                rater=CLUSTERS + client,
            )
            events += [request, rated(request, score if arm == "student" else 1 - score)]
    return events


def test_one_client_has_one_say_whatever_users_it_names(tmp_path: Path) -> None:
    found = stored(tmp_path, *of_clients([(1, 400, 1.0)]))
    assert found.difference is None
    assert (found.arms["student"].ratings, found.arms["student"].raters) == (200, 1)
    assert found.few_rate and found.half_from == 1


def test_among_many_clients_one_with_many_users_moves_the_ratings_as_little_as_any(tmp_path: Path) -> None:
    honest = [(client, 2, 0.25) for client in range(1, 100)]
    without = stored(tmp_path / "without", *of_clients(honest)).difference
    found = stored(tmp_path / "with", *of_clients([*honest, (200, 2000, 1.0)]))
    assert without is not None and found.difference is not None
    assert without.value == pytest.approx(-0.5)
    assert found.difference.value == pytest.approx((99 * -0.5 + 1) / 100, abs=1e-4)
    assert found.few_rate and found.half_from == 1


def test_many_who_rate_about_equally_often_are_not_few(tmp_path: Path) -> None:
    assert not stored(tmp_path, *of_clients([(client, 2, 0.25) for client in range(1, 100)])).few_rate
