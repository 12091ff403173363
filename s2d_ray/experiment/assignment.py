"""Which arm answers a user: the same one every time, by a hash, without a list of users anywhere.

A user's place on the line from 0 to 1 is fixed by the experiment's salt. System 1 holds the line's beginning, the
base model its end, System 2 what lies between. So when System 1's share grows, users only come to it from System 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from s2d_ray.recipes.serve import Weights

Arm = Literal["system1", "system2", "base"]
ARMS: Mapping[Arm, str] = {"system1": "System 1, distilled", "system2": "System 2", "base": "Base model"}
"""Arm → how a page calls it."""
MODELS: Mapping[str, Arm | None] = {"s2d": None, "s2d:system1": "system1", "s2d:system2": "system2", "base": "base"}
"""Model name that a client asks for → arm; None where the experiment decides."""
CLUSTERS = 1024
"""Users are counted in this many groups: enough for their scatter, and no user is named in what is stored."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a user stands in one experiment."""

    point: float
    """On the line of arms, in [0, 1)."""
    cluster: int
    """The group that its requests are counted in, in [0, CLUSTERS), independent of the point."""


def place(salt: str, user: str) -> Place:
    """A user's place, as good as random over users and salts, and always the same."""
    digest = blake2b(user.encode(), key=blake2b(salt.encode()).digest(), digest_size=16).digest()
    point, cluster = int.from_bytes(digest[:8]), int.from_bytes(digest[8:])
    # 53 bits are what a float between 0 and 1 can tell apart; more could round up to 1.
    return Place((point >> 11) / 2**53, cluster % CLUSTERS)


def arm_at(point: float, weights: Weights) -> Arm:
    """The arm that holds that point of the line."""
    if point < weights.system1:
        return "system1"
    return "base" if point >= 1 - weights.base else "system2"
