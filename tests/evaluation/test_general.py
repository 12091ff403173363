"""What is said to be lost, and what is not, from measured items."""

from dataclasses import replace
from typing import Any

import pytest

from s2d_ray.data.manifests import BenchmarkScore
from s2d_ray.data.records import Row, user
from s2d_ray.evaluation.benchmarks import benchmarks, lost_on
from s2d_ray.evaluation.general import General, lost, measure, refuses
from s2d_ray.recipes.general import General as Limits


def replies(fall: float, spread: float = 0.02, n: int = 32) -> list[Row]:
    """`n` replies of ten tokens whose log-likelihood per token falls by about so much."""
    rows = []
    for i in range(n):
        for arm, value in (("base", -2.0 - i % 5), ("student", -2.0 - i % 5 - fall - spread * (i % 3 - 1))):
            rows.append(row(i, arm, reply="a reply", tokens=10, log_likelihood=10 * value))
    return rows


def prompts(before: tuple[str, int], after: tuple[str, int], changed: int, n: int = 32) -> list[Row]:
    """`n` prompts answered with a text of so many tokens; the first `changed` otherwise after the training."""
    said = [(i, arm, after if arm == "student" and i < changed else before) for i in range(n) for arm in ARMS]
    return [row(n + i, arm, text=text, tokens=tokens) for i, arm, (text, tokens) in said]


ARMS = ("base", "student")


def row(number: int, arm: str, **given: Any) -> Row:
    blank = {"reply": "", "text": "", "tokens": None, "log_likelihood": None, "cut": False, "error": ""}
    return {"prompt_id": str(number), "messages": [user("?")], "arm": arm} | blank | given


def found(rows: list[Row]) -> General:
    measured = measure(rows, 64, 0)
    assert measured
    return measured


@pytest.mark.parametrize(("fall", "spread", "is_lost"), [(0.2, 0.02, True), (0.05, 0.02, False), (0.15, 0.5, False)])
def test_a_fall_in_likelihood_is_lost_where_all_of_its_interval_is_beyond_the_limit(
    fall: float, spread: float, is_lost: bool
) -> None:
    general = found(replies(fall, spread))
    assert general.log_likelihood and general.log_likelihood.value == pytest.approx(-fall, abs=spread / 16)
    assert bool(lost(general, Limits())) == is_lost
    assert lost(general, Limits(max_fall=fall + 1)) == ()


@pytest.mark.parametrize(("refused", "is_lost"), [(0, False), (2, False), (8, True), (32, True)])
def test_refusals_are_lost_where_they_rose_beyond_chance_and_the_limit(refused: int, is_lost: bool) -> None:
    general = found(
        prompts(
            ("Here it is.", 8),
            ("I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but I can\N{RIGHT SINGLE QUOTATION MARK}t do that.", 8),
            refused,
        )
    )
    assert (general.refused_before, general.refused_after) == (0, refused / 32)
    assert bool(lost(general, Limits())) == is_lost


@pytest.mark.parametrize(
    ("before", "after", "changed", "is_lost"),
    [(60, 3, 32, True), (60, 3, 6, False), (10, 60, 32, True), (60, 40, 32, False), (60, 60, 0, False)],
)
def test_answers_that_are_much_shorter_or_longer_are_lost(before: int, after: int, changed: int, is_lost: bool) -> None:
    general = found(prompts(("words", before), ("words", after), changed))
    assert general.tokens_after == pytest.approx((changed * after + (32 - changed) * before) / 32)
    assert [("times as long" in sentence) for sentence in lost(general, Limits())] == ([True] if is_lost else [])


def test_items_that_failed_on_one_model_count_on_neither() -> None:
    rows = replies(0.2) + prompts(("words", 5), ("words", 5), 0)
    rows[0] |= {"error": "too long", "tokens": None, "log_likelihood": None}
    general = found(rows)
    assert (general.replies, general.prompts) == (31, 32)
    assert measure([r | {"error": "x"} for r in rows], 64, 0) is None
    assert lost(None, Limits()) == lost(general, None) == ()


def test_one_reply_alone_proves_nothing() -> None:
    general = found(replies(5.0, n=1))
    assert general.log_likelihood_after is not None and general.refused is None
    assert lost(general, Limits()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\N{RIGHT SINGLE QUOTATION MARK}m sorry, I cannot do this.",
        "I am unable to provide that information.",
        "As an AI language model, I have no opinions.",
        "I apologize, but this is beyond me.",
        "Sure. I don't have access to your report.",
        "I do not know.",
        "",
        "  \n",
        "...",
    ],
)
def test_what_declines_to_answer_or_says_nothing_is_a_refusal(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir, thank you for your help.",
        "The word sorry comes from Old English.",
        "Paris",
        "4",
        "北京是中国的首都。",
        "You can't divide by zero.",
        "An AI that plays chess searches trees of moves. " * 4 + "As an AI would.",
    ],
)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not refuses(text)


def score(value: float, stderr: float | None = 0.01) -> BenchmarkScore:
    return BenchmarkScore(value=value, stderr=stderr)


@pytest.mark.parametrize(
    ("metric", "after", "is_lost"),
    [
        ("acc", score(0.5), True),
        ("acc_norm", score(0.5), True),
        ("acc", score(0.54), False),
        ("acc", score(0.65), False),
        ("acc", score(0.2, None), False),
        ("perplexity", score(0.2), False),
    ],
)
def test_a_benchmark_is_lost_where_its_share_fell_by_more_than_the_margin(
    metric: str, after: BenchmarkScore, is_lost: bool
) -> None:
    [benchmark] = benchmarks({"arc_easy": {metric: {"base": score(0.6), "student": after}}})
    sentences = lost_on([benchmark], 0.05)
    assert bool(sentences) == is_lost
    assert not sentences or "difference \N{MINUS SIGN}12.8 to \N{MINUS SIGN}7.2 points" in sentences[0]
    assert lost_on([replace(benchmark, high=None, low=None)], 0.05) == ()
