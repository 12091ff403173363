"""Users are spread by the weights, always answered by the same arm, and moved by as few as a change needs."""

import pytest

from s2d_ray.experiment.assignment import CLUSTERS, UserHash, arm_at, hash_user
from s2d_ray.recipes.serve import Weights

USERS = [f"user {i}" for i in range(20_000)]


def users_of(arm: str, weights: Weights, salt: str = "s2d") -> set[str]:
    return {user for user in USERS if arm_at(hash_user(salt, user).point, weights) == arm}


def test_a_hash_depends_on_nothing_but_salt_and_name() -> None:
    # Written out: another process, machine or Python version must find the same.
    assert hash_user("s2d", "alice") == UserHash(point=0.8634969210384926, cluster=10600)
    assert hash_user("s2d", "alice") != hash_user("s2e", "alice") != hash_user("s2e", "bob")


@pytest.mark.parametrize(
    "weights", [Weights(student=0.01), Weights(student=0.1, base=0.05), Weights(student=0.5, base=0.5)]
)
def test_arms_get_their_shares(weights: Weights) -> None:
    for arm, share in (("student", weights.student), ("teacher", weights.teacher), ("base", weights.base)):
        deviation = (share * (1 - share) / len(USERS)) ** 0.5
        assert abs(len(users_of(arm, weights)) / len(USERS) - share) <= 4 * deviation


def test_all_or_none() -> None:
    assert len(users_of("student", Weights(student=1))) == len(USERS)
    assert len(users_of("teacher", Weights(student=0))) == len(USERS)
    assert len(users_of("base", Weights(student=0, base=1))) == len(USERS)


def test_a_ramp_moves_users_to_the_student_and_no_other_way() -> None:
    steps = [Weights(student=share, base=0.05) for share in (0.01, 0.1, 0.5)]
    first, second, third = (users_of("student", weights) for weights in steps)
    assert first < second < third
    assert users_of("base", steps[0]) == users_of("base", steps[2])


def test_experiments_of_different_salts_do_not_follow_each_other() -> None:
    half = Weights(student=0.5)
    both = len(users_of("student", half) & users_of("student", half, salt="another"))
    assert 0.24 < both / len(USERS) < 0.26


def test_clusters_are_filled_evenly_whatever_the_arm() -> None:
    ours = [hash_user("s2d", user).cluster % CLUSTERS for user in users_of("student", Weights(student=0.5))]
    assert set(ours) == set(range(CLUSTERS))
    assert 0.48 < sum(cluster < CLUSTERS / 2 for cluster in ours) / len(ours) < 0.52
