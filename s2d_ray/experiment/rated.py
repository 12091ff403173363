"""Which requests have been rated: of several ratings of one the first counts, in whatever order they are read."""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

RATING = np.dtype(
    [
        ("request", np.uint64),
        ("time", np.int64),
        ("score", np.int32),
        ("arm", np.int8),
        ("version", np.int32),
        ("rater", np.int16),
    ]
)
"""One rating: a hash of its request's name, when it came in (in microseconds), and what it counts."""
Ratings = npt.NDArray[np.void]


def hash_request(name: str) -> int:
    """Of 64 bits: among two million names two are alike once in ten million experiments."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


class RatedRequests:
    """The rating that counts of each request; 27 bytes each."""

    def __init__(self, ratings: Ratings | None = None) -> None:
        self.ratings: Ratings = np.empty(0, RATING) if ratings is None else ratings
        """By `request`, ascending."""

    def add(self, ratings: Ratings) -> tuple[Ratings, Ratings]:
        """Take in ratings; those that count from now on, and those that no longer do since an earlier one was found."""
        new = _firsts(ratings)
        at = np.searchsorted(self.ratings["request"], new["request"])
        known = np.zeros(len(new), bool)
        inside = at < len(self.ratings)
        known[inside] = self.ratings["request"][at[inside]] == new["request"][inside]
        earlier = np.zeros(len(new), bool)
        earlier[known] = _before(new[known], self.ratings[at[known]])
        replaced = self.ratings[at[earlier]]
        self.ratings[at[earlier]] = new[earlier]
        self.ratings = np.insert(self.ratings, at[~known], new[~known])
        return new[~known | earlier], replaced

    def forget(self, until: int) -> None:
        """Leave out those that came in before a time, in microseconds: none of theirs may be rated again."""
        if len(self.ratings) and self.ratings["time"].min() < until:
            self.ratings = self.ratings[self.ratings["time"] >= until]


_ORDER = ("time", "score", "arm", "version", "rater")
"""Which of two ratings is the first; all of it, so that there is one whatever the order they are read in."""


def _firsts(ratings: Ratings) -> Ratings:
    order = np.lexsort([ratings[name] for name in reversed(("request", *_ORDER))])
    _, first = np.unique(ratings["request"][order], return_index=True)
    firsts: Ratings = ratings[order[first]]
    return firsts


def _before(one: Ratings, other: Ratings) -> npt.NDArray[np.bool_]:
    before: npt.NDArray[np.bool_]
    before, alike = np.zeros(len(one), bool), np.ones(len(one), bool)
    for name in _ORDER:
        before |= alike & (one[name] < other[name])
        alike &= one[name] == other[name]
    return before
