"""The answer that a text marks as its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.answers.final import NOTHING, closed_mark, final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{72}", "72"),
        ("So \\boxed{\\frac{1}{\\sqrt{2}}} it is.", "\\frac{1}{\\sqrt{2}}"),
        ("\\fbox{A}", "A"),
        ("\\boxed{\\text{New York}}", "New York"),
        ("<answer> 42 </answer>", "42"),
        ("The answer is Paris.", "Paris"),
        ("the answer is: Paris", "Paris"),
        ("The final answer is: **Paris**", "Paris"),
        ("**Final answer:** Paris, because", "Paris"),
        ("Answer: `x`", "x"),
        ("Answer (short): Paris", "Paris"),
        ("ANSWER = 5", "5"),
        ("The correct answer would be “Paris”.", "Paris"),
        ("The answer to your question must be Paris.", "Paris"),
        ("The answer, I think, is Paris.", "Paris"),
        ("The answer is therefore 'Paris'.", "Paris"),
        ("Final answer:\n\n7 apples\n", "7 apples"),
        ("Paris is the right answer.", "Paris"),
        ("The answer is Washington, D.C.", "Washington, D.C."),
        ("The answer is J. K. Rowling. She wrote it.", "J. K. Rowling"),
        ("The answer is Lyon. No: the answer is Paris.", "Paris"),
        ("The answer is not Lyon. The answer is Paris.", "Paris"),
        ("The answer is Paris. The answer is not Lyon.", "Paris"),
        ("The answer is not Lyon but Paris.", "Paris"),
        ("The answer isn't Lyon, it's Paris.", "Paris"),
        ("The answer is Paris, not Lyon.", "Paris"),
        ("The answer is Paris rather than Lyon.", "Paris"),
        ("The answer is Lyon. Wait, no, it is Paris.", "Paris"),
        ("The answer is Lyon. Correction: Paris.", "Paris"),
        ("The answer is Lyon. Actually, it's Paris.", "Paris"),
        ("The answer is Paris. Wait, let me check. Yes, that is right.", "Paris"),
        ("You say the answer is Lyon, but the answer is Paris.", "Paris"),
        ("I can't say for sure, but the answer is Paris.", "Paris"),
        ("\\boxed{1} or rather \\boxed{2}", "2"),
        ("Answer: 5\nIs the answer 6?", "5"),
        ("The answer is Lyon. Wait, that is wrong.", NOTHING),
        ("The answer is unknown.", NOTHING),
        ("The answer is not known.", NOTHING),
        ("Final answer: N/A", NOTHING),
        ("Paris", None),
        ("\\boxed{72", None),
        ("\\boxed{}", None),
        ("The answer is not Lyon.", None),
        ("I don't think the answer is Lyon.", None),
        ("I doubt that the answer is Lyon.", None),
        ("You think the answer is Lyon.", None),
        ("Your answer is Lyon.", None),
        ("I don't know what the answer is.", None),
        ("Is the answer Lyon?", None),
        ("Lyon is not the answer.", None),
        ("The answer is wrong.", None),
        ("The answer is [your answer here].", None),
        ("Answer: ____", None),
        ("I answer that this is hard.", None),
        ("Let me answer the question: what is it?", None),
        ("An answerable question is fine.", None),
        ("", None),
    ],
)
def test_a_marked_answer_is_read(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("So it is. The answer is 72. Next we", "The answer is 72."),
        ("Answer: 72\nThe", "Answer: 72"),
        ('The answer is "72" and', 'The answer is "72"'),
        ("So \\boxed{7} and the", "So \\boxed{7}"),
        ("The answer is 7", None),
        ("The answer is 7. Wait, no, it", None),
        ("It is 7. So", None),
    ],
)
def test_of_a_cut_text_only_a_mark_that_is_over_counts(text: str, statement: str | None) -> None:
    assert closed_mark(text) == statement


def test_other_words_for_an_answer_are_marks_where_named() -> None:
    assert final_answer("The verdict is B.", ("verdict",)) == "B"
    assert final_answer("The verdict is B.") is None


def test_a_mark_whose_answer_does_not_fit_is_left_out() -> None:
    assert final_answer("The answer is 7. The answer is clearly marked.", fits=lambda answer: "7" in answer) == "7"


@given(st.text(), st.from_regex(r"[A-Z][a-z]{3,9}( [A-Z][a-z]{3,9})?", fullmatch=True))
def test_the_answer_of_the_last_line_is_read_whatever_stands_before(text: str, answer: str) -> None:
    assert final_answer(f"{text}\nThe final answer is: {answer}.") == answer


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    final_answer(text)
    closed_mark(text)
