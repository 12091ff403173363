"""The paper's own figures (arXiv 2407.06023, Llama-2-70B-chat), for a report to show beside a run's.

Each carries its mark: `published` figures were read in a public copy or summary of the paper; the others are from
memory, and are shown as `reported, unverified` wherever they are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["published", "reported, unverified"]
PUBLISHED: Mark = "published"
UNVERIFIED: Mark = "reported, unverified"


@dataclass(frozen=True, slots=True)
class Figure:
    """One arm's result in the paper."""

    arm: str
    """As a run's report calls it (`s2d_ray.arms`)."""
    percent: float
    """Of the held-out prompts, by the task's own metric."""
    mark: Mark
    subset: str = "all"
    tokens: int | None = None
    """Generated tokens per answer, intermediate and final, under the same mark."""


@dataclass(frozen=True, slots=True)
class Paper:
    """What the paper says of one task with one method."""

    metric: str
    distils: bool
    finding: str
    finding_mark: Mark
    figures: Sequence[Figure]


def reported_for(task: str, method: str) -> Paper | None:
    """The paper's results for a recipe's task and method; None where it has none."""
    return REPORTED.get((task, method))


REPORTED: Mapping[tuple[str, str], Paper] = {
    ("last_letter", "rar2"): Paper(
        metric="exact match",
        distils=True,
        finding="distilled two-step RaR reaches 98.0 % in one call",
        finding_mark=PUBLISHED,
        figures=(
            Figure("base", 30.0, UNVERIFIED),
            Figure("teacher_rar1", 39.5, UNVERIFIED),
            Figure("teacher", 44.5, UNVERIFIED),
            Figure("student", 98.0, PUBLISHED),
            Figure("student_of_base", 69.5, UNVERIFIED),
            Figure("student_uncurated", 87.5, UNVERIFIED),
        ),
    ),
    ("coin_flip", "rar2"): Paper(
        metric="yes/no accuracy",
        distils=True,
        finding="distilled two-step RaR comes close to two-step RaR",
        finding_mark=UNVERIFIED,
        figures=(
            Figure("base", 56.1, UNVERIFIED),
            Figure("teacher_rar1", 58.5, UNVERIFIED),
            Figure("teacher", 77.2, UNVERIFIED),
            Figure("student", 75.7, UNVERIFIED),
            Figure("student_of_base", 54.5, UNVERIFIED),
        ),
    ),
    ("biased_trivia", "s2a"): Paper(
        metric="accuracy on biased and on plain questions",
        distils=True,
        finding="the distilled model is better than System 2 Attention, and worse where it is trained without curation",
        finding_mark=PUBLISHED,
        figures=(
            Figure("base", 51.6, UNVERIFIED, "biased", 165),
            Figure("base", 73.8, UNVERIFIED, "plain", 165),
            Figure("teacher", 76.0, UNVERIFIED, "biased", 147),
            Figure("teacher", 69.3, UNVERIFIED, "plain", 147),
            Figure("student", 81.3, UNVERIFIED, "biased", 56),
            Figure("student", 78.6, UNVERIFIED, "plain", 56),
        ),
    ),
    ("judge", "bsm"): Paper(
        metric="agreement with people on MT-Bench",
        distils=True,
        finding="the distilled model agrees more with people than BSM and has less position bias, in far fewer tokens",
        finding_mark=PUBLISHED,
        figures=(
            Figure("base", 28.1, UNVERIFIED, "mt_bench"),
            Figure("teacher", 64.5, UNVERIFIED, "mt_bench"),
            Figure("student", 72.4, UNVERIFIED, "mt_bench"),
        ),
    ),
    ("gsm8k", "cot"): Paper(
        metric="exact number",
        distils=False,
        finding="chain-of-thought maths does not distil: keep System 2",
        finding_mark=PUBLISHED,
        figures=(
            Figure("teacher", 52.77, PUBLISHED, tokens=270),
            Figure("student", 7.13, PUBLISHED, tokens=18),
        ),
    ),
}
"""(task, method) of a recipe → the paper's results."""
