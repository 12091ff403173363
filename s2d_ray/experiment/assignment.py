"""Which arm answers a user: the same one every time, by a hash, without a list of users anywhere.

The experiment's salt fixes a user's point on the line from 0 to 1. The student holds the line's beginning, the base
model its end, the teacher what lies between. So when the student's share grows, users only come to it from the teacher.
"""

from dataclasses import dataclass
from hashlib import blake2b

from s2d_ray.arms import CoreArm
from s2d_ray.recipes.serve import Weights

CLUSTERS = 1024
"""Users are compared in this many groups: enough for their scatter."""
CELLS = 32 * CLUSTERS
"""What is stored of a user is one of this many groups, each a part of a cluster: enough to count users, and no user
is named."""


@dataclass(frozen=True, slots=True)
class UserHash:
    """A user in one experiment."""

    point: float
    """On the line of arms, in [0, 1)."""
    cluster: int
    """The group that its requests are counted in, in [0, CELLS), independent of the point."""


def hash_user(salt: str, user: str) -> UserHash:
    """As good as random over users and salts, and always the same."""
    digest = blake2b(user.encode(), key=blake2b(salt.encode()).digest(), digest_size=16).digest()
    point, cluster = int.from_bytes(digest[:8]), int.from_bytes(digest[8:])
    # 53 bits are what a float between 0 and 1 can tell apart; more could round up to 1.
    return UserHash((point >> 11) / 2**53, cluster % CELLS)


def hash_client(salt: str, client: str) -> int:
    """The group that a client's say is counted in, as `UserHash.cluster` of a user."""
    # No user is called so: the names of both are hashed alike.
    return hash_user(salt, f"\0client\0{client}").cluster


def arm_at(point: float, weights: Weights) -> CoreArm:
    """The arm that holds that point of the line."""
    if point < weights.student:
        return "student"
    return "base" if point >= 1 - weights.base else "teacher"
