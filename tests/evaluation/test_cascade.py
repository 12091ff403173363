"""The threshold of a cascade keeps its promise on prompts that it was not calibrated on."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from s2d_ray.data.records import LabelledPrompt, Prompt, Row, Sample, Step, labelled_to_row, user
from s2d_ray.evaluation.cascade import (
    Trial,
    calibrate,
    confidence_of,
    curve,
    curve_point,
    escalates,
    mean_logprob,
)
from s2d_ray.evaluation.cascade import trials as trials_of
from s2d_ray.recipes.serve import Cascade
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task

ASKED = Prompt("id", [user("?")])


def trials(count: int, seed: int, steps: int = 1000) -> list[Trial]:
    """Confidence between 0 and 1, in `steps` values, with agreement that grows with it; System 2 is right in 0.9."""
    random = np.random.default_rng(seed)
    confidence = np.floor(random.random(count) * steps) / steps
    agrees = random.random(count) < 0.5 + 0.5 * confidence
    right2 = random.random(count) < 0.9
    return [
        Trial(float(c), bool(a), bool(r if a else random.random() < 0.1), bool(r))
        for c, a, r in zip(confidence, agrees, right2, strict=True)
    ]


def true_disagreement(threshold: float | None) -> float:
    """Of the made-up trials: the integral of (1 - c) / 2 from the threshold to 1."""
    return 0.0 if threshold is None else (1 - threshold) ** 2 / 4


@pytest.mark.parametrize("target", [0.9, 0.95])
def test_the_promise_is_kept_in_nineteen_of_twenty_calibrations(target: float) -> None:
    thresholds = [calibrate(trials(400, seed), target).threshold for seed in range(200)]
    broken = [true_disagreement(threshold) > 1 - target for threshold in thresholds]
    assert np.mean(broken) <= 0.05
    # It is not kept by escalating everything.
    assert np.mean([1 if threshold is None else threshold for threshold in thresholds]) < 0.75


def test_forms_of_a_question_that_go_together_are_worth_one_prompt() -> None:
    alone = trials(200, 0)
    together = [replace(trial, cluster=f"about {n}") for n, trial in enumerate(alone) for _ in range(4)]
    found, of_each, as_if_alone = (calibrate(rows, 0.9) for rows in (together, alone, alone * 4))
    assert (found.n, found.clusters, as_if_alone.clusters) == (800, 200, 800)
    assert as_if_alone.threshold is not None
    assert of_each.threshold is not None
    assert found.threshold is not None
    assert as_if_alone.threshold < of_each.threshold <= found.threshold
    point, point_alone = curve_point(together, 0.5), curve_point(alone * 4, 0.5)
    for name in ("coverage", "agreement", "accuracy"):
        one, other = getattr(point, name), getattr(point_alone, name)
        assert (one.value, one.clusters) == (other.value, 200)
        assert one.low < other.low < other.high < one.high


def test_more_prompts_escalate_less() -> None:
    few, many = (calibrate(trials(count, 0), 0.95).at_threshold for count in (200, 5000))
    assert few is not None
    assert many is not None
    assert few.coverage.value < many.coverage.value
    assert many.agreement.value > 0.95


def test_too_few_prompts_or_too_high_a_target_escalate_everything() -> None:
    for found in (calibrate(trials(20, 0), 0.95), calibrate(trials(300, 0), 0.9999)):
        assert (found.threshold, found.at_threshold) == (None, None)
    assert escalates(0.99, None)


def test_where_none_agrees_everything_is_escalated() -> None:
    assert calibrate([Trial(1.0, False)] * 300, 0.9).threshold is None


def test_where_all_agree_nothing_is_escalated() -> None:
    found = calibrate([Trial(c / 100, True) for c in range(100)], 0.95)
    assert found.threshold == 0
    assert found.at_threshold is not None
    assert (found.at_threshold.coverage.value, found.at_threshold.accuracy) == (1, None)


def test_prompts_of_one_confidence_are_kept_or_escalated_together() -> None:
    """Three votes give four values: half of the ties must not pass where the whole would not."""
    rows = [Trial(1.0, i % 5 != 0) for i in range(500)] + [Trial(0.5, False)] * 10
    assert calibrate(rows, 0.9).threshold is None
    assert [point.threshold for point in curve(rows)] == [1.0, 0.5]


def test_prompts_without_an_answer_go_on_to_the_teacher() -> None:
    found = calibrate([Trial(1.0, True)] * 99 + [Trial(None, False)], 0.95)
    assert found.threshold == 1.0
    assert found.at_threshold is not None
    assert (found.at_threshold.coverage.value, found.at_threshold.agreement.value) == (0.99, 1.0)
    assert (found.n, escalates(None, 0.0)) == (100, True)


def test_a_point_of_the_curve_by_hand() -> None:
    rows = [
        Trial(0.9, True, True, True),
        Trial(0.8, False, False, True),
        Trial(0.4, False, True, False),
        Trial(0.2, True, None, None),
    ]
    point = curve_point(rows, 0.8)
    assert (point.coverage.value, point.agreement.value) == (0.5, 0.75)
    assert point.accuracy is not None
    # System 1's first two, right and wrong; System 2's third, wrong; the fourth has no reference.
    assert point.accuracy.value == pytest.approx(1 / 3)
    assert point.accuracy.n == 3
    assert point.coverage.low < 0.5 < point.coverage.high
    assert [escalates(row.confidence, 0.8) for row in rows] == [False, False, True, True]


def test_the_curve_falls_in_threshold_and_rises_in_coverage_to_its_end() -> None:
    rows = trials(3000, 1)
    points = curve(rows)
    assert 50 <= len(points) <= 101
    thresholds, coverage = zip(*((point.threshold, point.coverage.value) for point in points), strict=True)
    assert list(thresholds) == sorted(set(thresholds), reverse=True)
    assert list(coverage) == sorted(coverage)
    assert coverage[-1] == 1
    assert points[0].agreement.value > 0.99 > 0.8 > points[-1].agreement.value


def test_confidence_of_tokens_and_of_votes() -> None:
    assert mean_logprob([-1.0, -2.0]) == -1.5
    assert mean_logprob([]) is None
    task, votes = load_task(Named(name="prompts", path="none.jsonl")), Cascade(confidence="votes", samples=4)
    drawn = [sample(text) for text in ("Rome", "rome", "Paris", " ")]
    assert confidence_of(votes, task, ASKED, drawn) == 0.5
    assert confidence_of(votes, task, ASKED, drawn[3:]) is None


def test_nothing_to_calibrate_with_is_refused() -> None:
    with pytest.raises(ValueError, match="no trials"):
        calibrate([], 0.9)


def sample(text: str, logprob: float | None = None, variant: str = "") -> Sample:
    return Sample(text, variant, "", [Step("answer", text, "stop", 9, 0, 4, 0.1, logprob)])


def answers(reference: str, student: list[Sample], teacher: list[Sample]) -> list[Row]:
    item = LabelledPrompt(Prompt(reference, [user("?")]), [reference] if reference else [], "all")
    rows = {"student": student, "teacher": teacher, "base": [sample("other")]}
    return [
        labelled_to_row(item) | {"arm": arm, "samples": [asdict(s) for s in given], "error": ""}
        for arm, given in rows.items()
    ]


def test_trials_are_read_from_what_both_arms_answered() -> None:
    task = load_task(Named(name="prompts", path="none.jsonl"))
    perturbed = sample("Rome", -9.0, "swapped")
    rows = [
        *answers("Paris", [perturbed, sample("paris", -0.25)], [sample("Paris")]),
        *answers("Rome", [sample("Lyon", -2.0)], [sample("Rome")]),
        *answers("", [], [sample("Rome")]),
    ]
    assert trials_of(rows, Cascade(), task) == [
        Trial(-0.25, True, True, True, "Paris"),
        Trial(-2.0, False, False, True, "Rome"),
        Trial(None, False, None, None),
    ]


def test_a_trial_has_the_cluster_of_its_prompt() -> None:
    task = load_task(Named(name="prompts", path="none.jsonl"))
    rows = [row | {"cluster": "about Paris"} for row in answers("Paris", [sample("Paris", -0.5)], [sample("Paris")])]
    assert trials_of(rows, Cascade(), task) == [Trial(-0.5, True, True, True, "about Paris")]


def test_an_answer_that_was_cut_is_never_kept_and_agrees_with_nothing() -> None:
    task = load_task(Named(name="prompts", path="none.jsonl"))
    cut = [replace(one, steps=[replace(one.steps[-1], finish_reason="length")]) for one in (sample("Par", -0.1),)]
    rows = answers("Paris", cut, [sample("Paris")]) + answers("Rome", cut, cut) + answers("Par", [sample("Par")], cut)
    assert trials_of(rows, Cascade(), task) == [
        Trial(None, False, False, True, "Paris"),
        Trial(None, False, False, False, "Rome"),
        Trial(None, False, True, False, "Par"),
    ]
    assert confidence_of(Cascade(confidence="votes", samples=2), task, ASKED, [*cut, sample("Paris")]) == 0.5


def test_votes_are_the_share_of_the_samples_that_agree() -> None:
    task = load_task(Named(name="prompts", path="none.jsonl"))
    drawn = [sample("Lyon"), sample("Paris"), sample("paris")]
    rows = answers("Paris", drawn, [sample("Rome"), sample("Paris"), sample("Paris")])
    [trial] = trials_of(rows, Cascade(confidence="votes", samples=3), task)
    assert trial.confidence == pytest.approx(2 / 3)
    assert (trial.agrees, trial.student_right, trial.teacher_right) == (True, True, True)
