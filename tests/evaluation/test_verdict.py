"""The verdict follows from the figures, and only from them."""

from dataclasses import replace

import pytest

from s2d_ray.evaluation.metrics import Score, ScoredAgainst
from s2d_ray.evaluation.statistics import Paired, paired, share
from s2d_ray.evaluation.verdict import Changes, Evidence, Verdict, judge, untrained

MARGIN = 0.05
DISTILS, PARTLY = "distils", "partly"
KEEP2 = "does not distil: keep System 2"
KEEP1 = "nothing to distil: keep System 1"
OPEN = "open: more held-out prompts are needed"

# In per cent: System 1, System 2, distilled System 1; then prompts, generated tokens of the distilled model (System 2
# generates 30), and the share that the distilled model and System 2 answer otherwise in a perturbed form. The arm that
# is better is right wherever the worse one is. Beside it what the definition says:
# 1. Something must be gained: System 2 or the distilled model is better than System 1.
# 2. The distilled model is not worse than System 2 by more than 5 points, nor than System 1.
# 3. At most half of the tokens, and no less consistent.
CASES = """
30 54 61 1000  5  0  0 | distils
30 54 53 1000  5  0  0 | distils
30 54 54 1000 15  0  0 | distils
30 30 54 1000  5  0  0 | distils
90 40 95 1000  5  0  0 | distils
30 54 54 1000  5 10 10 | distils
30 54 54 1000  5  2 10 | distils
30 54 54 1000  5 13 10 | distils
10 90 90  100  5  0  0 | distils
30 54 54 1000 16  0  0 | partly
30 54 54 1000  ?  0  0 | partly
30 54 54 1000  5 98 10 | partly
30 54 54 1000  5 31  4 | partly
30 54 54 1000 16 98 10 | partly
30 54 40 1000  5  0  0 | partly
30 54 50 1000  5  0  0 | partly
30 80 80   20  5  0  0 | partly
10 90 60  100  5  0  0 | partly
90 40 40 1000  5  0  0 | keep 1
90 40 90 1000  5  0  0 | keep 1
90 40 60 1000  5  0  0 | keep 1
64 61 61 1000  5  0  0 | keep 1
60 60 60 1000  5  0  0 | keep 1
60 60 10 1000  5  0  0 | keep 1
 0  0  0 1000  5  0  0 | keep 1
 0  0  0   90  5  0  0 | keep 1
99 99 99 1000 30  0  0 | keep 1
 0  0  0   60  5  0  0 | open
60 60 60   40  5  0  0 | open
30 40 40   20  5  0  0 | open
30 40 30   20  5  0  0 | open
60 70 65  100  5  0  0 | open
30 54 30 1000  5  0  0 | keep 2
50 60 51  100  5  0  0 | keep 2
80 83 78 1000  5  0  0 | keep 2
80 83 80 1000  5  0  0 | keep 2
40 43 40 1000  5  0  0 | keep 2
30 54 10 1000  5  0  0 | keep 2
30 54  0 1000  5  0  0 | keep 2
10 90 12  100  5  0  0 | keep 2
"""
NAMES = {"keep 1": KEEP1, "keep 2": KEEP2, "open": OPEN}


def score(right: int, n: int, tokens: float | None, against: ScoredAgainst) -> Score:
    s = share([i < right for i in range(n)])
    return Score(s.value, s.low, s.high, n, tokens, tokens, tokens, 0.0, against, n)


def evidence(
    base: int,
    teacher: int,
    student: int,
    n: int = 1000,
    tokens: float | None = 5,
    changed: tuple[int, int] = (0, 0),
    against: ScoredAgainst = "reference",
) -> Evidence:
    """Arms that are right on that many prompts, the better one wherever the worse one is; so with those changed."""
    return Evidence(
        base=score(base, n, 20, against),
        teacher=score(teacher, n, 30, against),
        student=score(student, n, tokens, against),
        student_vs_teacher=compared(student, teacher, n),
        student_vs_base=compared(student, base, n),
        teacher_vs_base=compared(teacher, base, n),
        changes=Changes(changed[0] / n, changed[1] / n, compared(*changed, n)),
    )


def compared(first: int, second: int, n: int) -> Paired:
    return paired([i < first for i in range(n)], [i < second for i in range(n)])


@pytest.mark.parametrize("line", CASES.strip().splitlines())
def test_every_corner_of_the_figures_has_its_conclusion(line: str) -> None:
    figures, conclusion = line.split(" | ")
    *shares, size, tokens, ours, theirs = figures.split()
    n = int(size)
    base, teacher, student, *changed = (int(percent) * n // 100 for percent in (*shares, ours, theirs))
    case = evidence(base, teacher, student, n, None if tokens == "?" else int(tokens), (changed[0], changed[1]))
    assert judge(case, MARGIN).verdict == NAMES.get(conclusion, conclusion)


def test_the_table_has_every_conclusion() -> None:
    assert {line.split(" | ")[1] for line in CASES.strip().splitlines()} == {DISTILS, PARTLY, *NAMES}


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (evidence(300, 540, 610), "answers better than System 2 and generates at most half"),
        (evidence(300, 540, 530), "answers as well as System 2"),
        (evidence(300, 540, 540, tokens=16), "as well as System 2, but does not halve its tokens"),
        (evidence(300, 540, 540, changed=(310, 40)), "where it must not (31.0% against 4.0%)"),
        (evidence(300, 540, 540, tokens=16, changed=(310, 40)), "halve its tokens and changes its answer"),
        (evidence(300, 540, 400), "beats System 1 but falls short of System 2"),
        (evidence(300, 540, 500), "Better than System 1, but too few prompts to tell"),
        (evidence(6, 16, 16, n=20), "Better than System 1, but too few prompts to tell"),
        (evidence(60, 70, 65, n=100), "Too few prompts to tell whether the distilled model answers as well"),
        (
            replace(evidence(300, 540, 540), student_vs_base=paired([True, False] * 10, [False, True] * 10)),
            "as well as System 2, but there are too few prompts to tell whether it falls below System 1",
        ),
        (evidence(300, 540, 301), "does not beat System 1"),
        (evidence(900, 400, 400), "Neither System 2 nor the distilled model is better than System 1"),
        (evidence(0, 0, 0, n=60), "Too few prompts to tell whether System 2 or the distilled model is better"),
    ],
)
def test_the_reason_says_why(case: Evidence, why: str) -> None:
    assert why in judge(case, MARGIN).reason


def test_what_gets_worse_elsewhere_distils_partly() -> None:
    def beside(**others: Paired) -> Verdict:
        return judge(replace(evidence(300, 540, 540), others=others), MARGIN, "biased")

    as_before = compared(600, 600, 1000)
    assert beside(plain=as_before).verdict == beside(plain=compared(570, 600, 1000)).verdict == DISTILS
    worse = beside(plain=compared(480, 600, 1000), right=as_before)
    assert worse.verdict == PARTLY
    assert "gets worse on plain (\N{MINUS SIGN}12.0 points)" in worse.reason
    assert "on 1000 prompts of biased" in worse.reason


def test_a_loss_elsewhere_that_too_few_prompts_rule_out_is_a_caveat() -> None:
    unsure = judge(replace(evidence(300, 540, 540), others={"plain": compared(11, 12, 20)}), MARGIN)
    assert unsure.verdict == DISTILS
    assert "Too few prompts to rule out a loss of more than 5 points on plain (" in unsure.caveats[0]


def test_what_was_lost_beside_the_task_turns_the_verdict() -> None:
    lost = replace(evidence(300, 540, 540), lost=["refuses 20 points more of unrelated prompts"])
    assert judge(lost, MARGIN).verdict == PARTLY
    assert "but refuses 20 points more of unrelated prompts" in judge(lost, MARGIN).reason


def test_losses_of_a_model_that_falls_short_are_told_too() -> None:
    short = replace(evidence(300, 540, 400, tokens=16), others={"plain": compared(400, 600, 1000)})
    caveats = " ".join(judge(short, MARGIN).caveats)
    assert "The distilled model does not halve its tokens." in caveats
    assert "The distilled model gets worse on plain" in caveats


def test_the_margin_decides_and_is_not_the_point_estimate() -> None:
    # Two points below System 2: within five points even at the interval's end, not within two and a half.
    assert judge(evidence(300, 540, 520), 0.05).verdict == DISTILS
    assert judge(evidence(300, 540, 520), 0.025).verdict == PARTLY


def test_the_reason_counts_clusters_where_prompts_share_one() -> None:
    right, of = [[n % 10 < 6 for n in range(40)], [n % 10 < 2 for n in range(40)]], [n // 4 for n in range(40)]
    case = replace(evidence(300, 540, 540), student_vs_teacher=paired(right[0], right[1], of))
    assert "on 40 prompts of biased in 10 clusters (" in judge(case, MARGIN, "biased").reason


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


@pytest.mark.parametrize(
    ("base", "teacher", "n", "verdict"),
    [(300, 540, 1000, KEEP2), (540, 300, 1000, KEEP1), (300, 300, 1000, KEEP1), (30, 30, 50, OPEN)],
)
def test_without_anything_to_train_on_what_is_better_stays(base: int, teacher: int, n: int, verdict: str) -> None:
    found = untrained("Curation kept none of 60 prompts.", compared(teacher, base, n), "reference", MARGIN)
    assert (found.verdict, found.reason) == (verdict, "Curation kept none of 60 prompts.")


def test_without_references_nothing_says_that_system_2_is_better() -> None:
    found = untrained("Curation kept none.", compared(100, 90, 100), "teacher", MARGIN)
    assert found.verdict == OPEN
    assert "agreement with System 2" in found.caveats[0]


def test_too_few_questions_in_several_forms_are_a_caveat() -> None:
    few = replace(evidence(300, 540, 540), changes=Changes(0.4, 0.0, compared(4, 0, 10)))
    found = judge(few, MARGIN)
    assert found.verdict == DISTILS
    assert "Too few questions to rule out that it changes its answer" in found.caveats[0]
    many = replace(evidence(300, 540, 540), changes=Changes(0.4, 0.4, compared(400, 400, 1000)))
    assert judge(many, MARGIN).caveats == ()
