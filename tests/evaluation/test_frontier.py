"""What to ship follows from the figures: the fewest tokens of those that are not worse than System 2."""

import pytest

from s2d_ray.display.formatting import points
from s2d_ray.evaluation.frontier import frontier
from s2d_ray.evaluation.metrics import Score
from s2d_ray.evaluation.statistics import Paired, paired, share

MARGIN = 0.05
N = 1000
ARMS = ("base", "student", "student_shortest", "student_internalised")
# Of 1000 prompts, how many System 2 and each of the arms above answer right, and with how many tokens; an arm with `?`
# was never counted, one with `-` is not there. The better arm is right wherever the worse one is. At 1000 prompts the
# interval of a difference is about 2 points to each side.
CASES = """
800:90 | 100:3 300:3 795:40 790:50 | student_shortest
800:90 | 100:3 300:3 790:50 795:40 | student_internalised
800:90 | 100:3 790:3 795:40 790:50 | student
800:90 | 800:3 790:4 795:40 790:50 | base
800:90 | 100:3 900:30 795:40 -     | student
800:90 | 100:3 300:3 795:40 795:40 | student_shortest
800:90 | 100:3 300:3 700:40 500:50 | none
800:90 | 100:3 300:3 750:40 500:50 | none
800:90 | 100:3 300:3 795:90 -      | none
800:90 | 100:3 300:3 795:95 -      | none
800:90 | 100:3 300:3 795:? -       | none
800:?  | 100:3 300:3 795:40 -      | student_shortest
800:90 | 100:3 300:3 -     -       | none
"""


def score(right: int, tokens: float | None, n: int = N) -> Score:
    s = share([i < right for i in range(n)])
    return Score(s.value, s.low, s.high, n, tokens, tokens, tokens, 0.0, "reference", n)


def compared(first: int, second: int, n: int = N) -> Paired:
    return paired([i < first for i in range(n)], [i < second for i in range(n)])


def figures(text: str) -> tuple[int, float | None]:
    right, tokens = text.split(":")
    return int(right), None if tokens == "?" else float(tokens)


@pytest.mark.parametrize("line", CASES.strip().splitlines())
def test_every_case_ships_what_the_definition_says(line: str) -> None:
    of_teacher, of_arms, shipped = (part.strip() for part in line.split("|"))
    teacher, tokens = figures(of_teacher)
    arms = {arm: figures(text) for arm, text in zip(ARMS, of_arms.split(), strict=True) if text != "-"}
    scores = {arm: score(*found) for arm, found in arms.items()} | {"teacher": score(teacher, tokens)}
    found = frontier(scores, {arm: compared(right, teacher) for arm, (right, _) in arms.items()}, MARGIN)
    assert (found.ship or "none") == shipped
    assert list(found.points) == list(arms)
    assert (found.conclusion == "none of them: keep System 2") == (shipped == "none")


@pytest.mark.parametrize(
    ("right", "n", "standing"),
    [
        (800, 1000, "not worse"),
        (770, 1000, "not worse"),
        (755, 1000, "open"),
        (740, 1000, "open"),
        (700, 1000, "worse"),
        (16, 20, "open"),
        (900, 1000, "not worse"),
    ],
)
def test_an_arm_stands_by_its_whole_interval(right: int, n: int, standing: str) -> None:
    teacher = 8 * n // 10
    scores = {"student": score(right, 3, n), "teacher": score(teacher, 30, n)}
    found = frontier(scores, {"student": compared(right, teacher, n)}, MARGIN)
    assert found.points["student"].standing == standing


def test_the_reason_has_the_figures() -> None:
    scores = {"student_shortest": score(795, 40), "teacher": score(800, 90)}
    found = frontier(scores, {"student_shortest": compared(795, 800)}, MARGIN, "biased")
    assert found.conclusion == "Distilled, shortest trace"
    assert "40.0 instead of 90.0, for 79.5% against 80.0% on 1000 prompts of biased" in found.reason
    assert f"(difference {points(-0.005)} points, 95% interval {points(-0.012)} to " in found.reason
    none = frontier(scores, {"student_shortest": compared(300, 800)}, MARGIN)
    assert none.reason == (
        "No arm with fewer tokens is sure to stay within 5.0 points of System 2, which has 80.0% with 90.0 generated "
        "tokens per answer on 1000 prompts."
    )
