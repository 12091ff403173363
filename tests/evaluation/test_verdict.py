"""The verdict follows from the figures, and only from them."""

from dataclasses import replace

import pytest

from s2d_ray.evaluation.metrics import Score, ScoredAgainst
from s2d_ray.evaluation.statistics import Interval, paired, share
from s2d_ray.evaluation.verdict import Evidence, Verdict, judge, untrained

MARGIN = 0.05
KEEP = "does not distil: keep System 2"
KEEP_FAST = "nothing to distil: keep System 1"


def share_of(hits: int, n: int) -> Interval:
    return share([i < hits for i in range(n)])


def score(right: int, n: int, tokens: float | None, against: ScoredAgainst = "reference") -> Score:
    s = share_of(right, n)
    return Score(s.value, s.low, s.high, n, tokens, tokens, tokens, 0.0, against, n)


def evidence(
    base: int,
    teacher: int,
    student: int,
    n: int = 1000,
    tokens: float | None = 5,
    against: ScoredAgainst = "reference",
) -> Evidence:
    """Arms that are right on that many prompts, the better one wherever the worse one is."""
    right = [[i < k for i in range(n)] for k in (base, teacher, student)]
    return Evidence(
        base=score(base, n, 20, against),
        teacher=score(teacher, n, 30, against),
        student=score(student, n, tokens, against),
        student_vs_teacher=paired(right[2], right[1]),
        student_vs_base=paired(right[2], right[0]),
        teacher_vs_base=paired(right[1], right[0]),
    )


@pytest.mark.parametrize(
    ("case", "verdict", "why"),
    [
        (evidence(300, 540, 610), "distils", "answers better than System 2"),
        (evidence(300, 540, 530), "distils", "answers as well as System 2"),
        (evidence(300, 540, 540, tokens=15), "distils", "at most half"),
        (evidence(300, 540, 540, tokens=16), "partly", "does not halve its tokens"),
        (evidence(300, 540, 540, tokens=None), "partly", "does not halve its tokens"),
        (evidence(300, 540, 400), "partly", "beats System 1 but falls short of System 2"),
        (evidence(300, 540, 500), "partly", "Too few prompts to tell"),
        (evidence(6, 16, 16, n=20), "partly", "Too few prompts to tell"),
        (evidence(300, 540, 301), KEEP, "does not beat System 1"),
        (evidence(300, 540, 100), KEEP, "does not beat System 1"),
        (evidence(0, 0, 0, n=60), KEEP_FAST, "by more than chance"),
        (evidence(300, 300, 300, tokens=16), KEEP_FAST, "by more than chance"),
        (evidence(300, 300, 200), KEEP_FAST, "by more than chance"),
        (evidence(300, 300, 100), KEEP_FAST, "by more than chance"),
        # A gain that is not the teacher's is a gain all the same.
        (evidence(300, 300, 540), "distils", "answers better than System 2"),
    ],
)
def test_verdict(case: Evidence, verdict: str, why: str) -> None:
    found = judge(case, MARGIN)
    assert found.verdict == verdict
    assert why in found.reason


def test_what_is_less_consistent_than_its_teacher_distils_partly() -> None:
    def judged(ours: int, theirs: int) -> Verdict:
        case = evidence(300, 540, 540)
        student = replace(case.student, inconsistent=share_of(ours, 100))
        teacher = replace(case.teacher, inconsistent=share_of(theirs, 100))
        return judge(replace(case, student=student, teacher=teacher), MARGIN)

    # A judge that always names the first response.
    assert judged(98, 10).verdict == "partly"
    assert "changes its answer more often where a perturbation must not (98.0% against 10.0%)" in judged(98, 10).reason
    assert judged(14, 10).verdict == judged(2, 10).verdict == "distils"


def test_the_margin_decides_and_is_not_the_point_estimate() -> None:
    # Two points below System 2: within five points even at the interval's end, not within two and a half.
    assert judge(evidence(300, 540, 520), 0.05).verdict == "distils"
    assert judge(evidence(300, 540, 520), 0.025).verdict == "partly"


def test_the_reason_is_one_sentence_with_the_figures() -> None:
    reason = judge(evidence(300, 540, 610), MARGIN).reason
    for figure in ("61.0%", "54.0%", "30.0%", "1000 prompts", "+7.0 points", "margin \N{MINUS SIGN}5.0", "5.0", "30.0"):
        assert figure in reason
    assert reason.endswith(".")
    assert ". " not in reason


def test_caveats_name_what_the_verdict_does_not_say() -> None:
    assert judge(evidence(300, 540, 610), MARGIN).caveats == ()
    assert "does not beat System 1" in judge(evidence(540, 540, 540), MARGIN).caveats[0]
    assert "worse than plain System 1" in judge(evidence(700, 540, 540), MARGIN).caveats[1]
    assert "agreement with System 2" in judge(evidence(300, 540, 540, against="teacher"), MARGIN).caveats[0]


def test_without_anything_to_train_on_system_2_stays() -> None:
    found = untrained("Curation kept none of 60 prompts.")
    assert (found.verdict, found.reason, found.caveats) == (KEEP, "Curation kept none of 60 prompts.", ())
