"""Which of several answers is given most often; answers with the same key count as the same.

Self-consistency (Wang et al., arXiv 2203.11171) takes it for the answer of all samples (paper section 3, rule a).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Tie = Literal["reject", "first"]
"""What wins where several answers are the most frequent: none of them, or the one that came first."""


@dataclass(frozen=True, slots=True)
class MajorityVote:
    """The most frequent of several answers, and how far ahead it is."""

    position: int
    """Where it stands first among the answers."""
    answer: str
    """As it is written there."""
    usual_spelling: str
    """As it is written most often, the earliest of equals."""
    share: float
    """Of all answers, those that are None counted in."""
    tied: bool
    """Whether another one is as frequent."""


def majority_vote(answers: Sequence[str | None], key: Callable[[str], str], tie: Tie) -> MajorityVote | None:
    """The most frequent answer; None where every answer is None, and for a tie that is rejected."""
    keys = [None if answer is None else key(answer) for answer in answers]
    counts = Counter(found for found in keys if found is not None).most_common(2)
    if not counts:
        return None
    (winner, count), *others = counts
    tied = bool(others) and others[0][1] == count
    if tied and tie == "reject":
        return None
    spellings = [answer for answer, found in zip(answers, keys, strict=True) if answer is not None and found == winner]
    [(usual, _)] = Counter(spellings).most_common(1)
    return MajorityVote(keys.index(winner), spellings[0], usual, count / len(answers), tied)


def share_of(answer: str, answers: Sequence[str | None], key: Callable[[str], str]) -> float:
    """The share of all answers, those that are None counted in, that are the same as `answer`."""
    wanted = key(answer)
    return sum(other is not None and key(other) == wanted for other in answers) / len(answers)
