"""Made-up traffic with a known truth: users with tastes of their own, assigned, answered and asked for a rating."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from s2d_ray.arms import CoreArm
from s2d_ray.experiment.assignment import arm_at, hash_user
from s2d_ray.experiment.events import FeedbackEvent, RequestEvent, ShadowEvent
from s2d_ray.experiment.running import RunningSums
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.experiment.store import EventStore
from s2d_ray.experiment.sums import Sums
from s2d_ray.recipes.serve import Weights

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Behaviour:
    """What one arm does."""

    quality: float
    seconds: float
    tokens: int
    errors: float = 0.0


@dataclass(frozen=True)
class Faults:
    """What may be wrong with an experiment."""

    lost: float = 0.0
    """Share of the student's users whose requests are not stored."""
    unrated: float = 0.0
    """Share of the ratings of the teacher's answers that are not sent."""


NO_FAULTS = Faults()
BEHAVIOURS: Mapping[CoreArm, Behaviour] = {
    "student": Behaviour(0.86, 0.21, 3, 0.002),
    "teacher": Behaviour(0.87, 2.9, 35, 0.004),
    "base": Behaviour(0.55, 0.4, 18),
}


def rated(request: RequestEvent, score: float) -> FeedbackEvent:
    """What came half a minute later."""
    rater = request.cluster if request.rater is None else request.rater
    return FeedbackEvent(request.request_id, request.time + 30, score, request.arm, request.version, rater)


def requests(
    count: int,
    weights: Weights,
    users: int = 4000,
    behaviours: Mapping[CoreArm, Behaviour] = BEHAVIOURS,
    hours: float = 60,
) -> list[tuple[RequestEvent, FeedbackEvent | None, ShadowEvent | None]]:
    """That many requests over some hours, a third of them rated and a tenth shadowed."""
    random = np.random.default_rng(count)
    tastes = random.beta(2, 2, users) - 0.5
    traffic: list[tuple[RequestEvent, FeedbackEvent | None, ShadowEvent | None]] = []
    for number, user in enumerate(random.integers(0, users, count)):
        user_hash = hash_user("test", f"user {user}")
        arm = arm_at(user_hash.point, weights)
        does = behaviours[arm]
        time = START.timestamp() + 3600 * hours * number / count + 1
        failed = bool(random.random() < does.errors)
        request = RequestEvent(
            request_id=f"s2d-{number:08d}",
            time=time,
            arm=arm,
            version=1,
            cluster=user_hash.cluster,
            outcome="failed" if failed else "answered",
            seconds=float(does.seconds * random.lognormal(0, 0.4)),
            first_token_seconds=None if failed else 0.8 * does.seconds,
            prompt_tokens=40,
            completion_tokens=int(random.poisson(does.tokens)),
            cost=0.0001 * does.tokens,
        )
        good = random.random() < np.clip(does.quality + 0.3 * tastes[user], 0, 1)
        feedback = rated(request, float(good)) if random.random() < 0.33 else None
        other: CoreArm = "student" if arm == "teacher" else "teacher"
        agrees = float(random.random() < 0.93)
        shadow = (
            ShadowEvent(request.request_id, time, arm, other, user_hash.cluster, agrees, 1.0)
            if random.random() < 0.1
            else None
        )
        traffic.append((request, feedback, shadow))
    return traffic


def counted(folder: Path, state: ExperimentState) -> Sums:
    """All that a store has, counted anew."""
    return RunningSums(folder, lambda: state).refresh()


def fill(
    store: EventStore,
    count: int,
    weights: Weights,
    behaviours: Mapping[CoreArm, Behaviour] = BEHAVIOURS,
    faults: Faults = NO_FAULTS,
) -> None:
    """All of these requests, with what belongs to them, into a store."""
    random = np.random.default_rng(count)
    for request, feedback, shadow in requests(count, weights, behaviours=behaviours):
        if request.arm == "student" and request.cluster % 1000 < 1000 * faults.lost:
            continue
        unrated = request.arm == "teacher" and random.random() < faults.unrated
        for event in (request, None if unrated else feedback, shadow):
            if event is not None:
                store.add(event)
