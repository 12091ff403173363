"""Reading what a judge wrote: criteria, scores and verdicts. A verdict is `A`, `B` or `tie`."""

import re
from collections.abc import Mapping, Sequence

from s2d_ray.answers.verdicts import read_verdict
from s2d_ray.methods.method import MalformedOutput

SWAP: Mapping[str, str] = {"A": "B", "B": "A", "tie": "tie"}
"""A verdict on the swapped pair → the verdict on the pair."""


def parse_criteria(plan: str) -> list[str]:
    """The first five criteria of a plan, one a line. Raises MalformedOutput where there are none."""
    lines = [line.replace("**", "").strip() for line in plan.splitlines()]
    listed = [found[1] for line in lines if (found := re.match(r"(?:\d+[.)]|[-*•])\s*(\w.*)", line))]
    criteria = listed or [line for line in lines if re.match(r"\w[^:]*:\s*\w", line)]
    if not criteria:
        raise MalformedOutput("the plan names no criteria")
    return criteria[:5]


def verdict_of_scores(evaluations: Sequence[str]) -> str:
    """The verdict of the summed scores: A's on an evaluation's first line, B's on its second."""
    scores = [[_score(text, name, line) for line, name in enumerate("AB")] for text in evaluations]
    a, b = (sum(column) for column in zip(*scores, strict=True))
    return "tie" if a == b else "A" if a > b else "B"


def _score(evaluation: str, name: str, line: int) -> float:
    lines = [text for text in evaluation.splitlines() if text.strip()]
    found = re.match(r"(?:[^:=]{0,60}[:=])?\W*(\d+(?:\.\d+)?)", lines[line]) if line < len(lines) else None
    if found is None or not 1 <= float(found[1]) <= 5:
        raise MalformedOutput(f"an evaluation has no score from 1 to 5 for {name}")
    return float(found[1])


def parse_verdict(text: str) -> str:
    """The verdict of a text. Raises MalformedOutput where there is none."""
    verdict = read_verdict(text)
    if verdict is None:
        raise MalformedOutput("the merge names no winner")
    return verdict
