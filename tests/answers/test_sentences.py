"""What a text asserts, and how much of it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.answers.lengths import LONGEST
from s2d_ray.answers.sentences import asks, asserted, correction, sentence_ends, sentences, straight


def test_of_a_long_text_the_head_and_the_tail_are_read() -> None:
    text = f"The answer is 7. {'x ' * 50_000} It is 8."
    read = straight(text)
    assert 0.9 * LONGEST < len(read) <= LONGEST
    assert read.startswith("The answer is 7.") and read.endswith("It is 8.")
    assert sentences(text)[-1].endswith("It is 8.")
    assert max(sentence_ends(text)) == len(read)


@given(st.text())
def test_a_text_that_is_read_whole_keeps_its_length(text: str) -> None:
    assert len(straight(text)) == len(text)


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, 20_000])
def test_what_is_read_of_a_text_is_read_whole(length: int) -> None:
    read = straight("ab" * length)
    assert straight(read) == read


@pytest.mark.parametrize("tag", ["right", "correct", "isn't it", "doesn't it", "is it not"])
def test_a_tag_asks_nothing(tag: str) -> None:
    assert asserted(f"It is in France, {tag}? It is.").split() == ["It", "is", "in", "France.", "It", "is."]
    assert asks("Is it in France?")


@pytest.mark.parametrize(
    ("text", "tail", "withdrawn"),
    [
        ("It is 5. Wait, no: 6.", "no: 6.", True),
        ("It is 5. Wait a moment. It is 6.", "a moment. It is 6.", True),
        ("It is 5. Scratch that. It is 6.", "It is 6.", True),
        ("It is 5. That's wrong. It is 6.", "It is 6.", True),
        ("It is 5. Oh, that's wrong. It is 6.", "It is 6.", True),
        ("It is 5. Correction: -6", "-6", True),
        ("It is 5. I was wrong: it is 6.", "it is 6.", True),
        ("It is 5. No, it is 6.", "it is 6.", False),
        ("It is 5; no, it is 6.", "it is 6.", False),
        ("It is 5. Actually, it is 6.", "it is 6.", False),
    ],
)
def test_a_correction_says_what_follows_it(text: str, tail: str, withdrawn: bool) -> None:
    assert correction(text) == (tail, withdrawn)


@pytest.mark.parametrize(
    "text",
    [
        "That's wrong. It is 6.",
        "No, it is 6.",
        "It is 6, so that's incorrect.",
        "It is 6. So that is not correct.",
        "It is 6. She can't wait to see it.",
        "It is how long she has to wait.",
        "It is 6, unless I am mistaken.",
        "It is 6. I was wrong to doubt it.",
        "They make that 6.",
        "It is 6. I mean it.",
        "The correction factor is 6.",
        "It is 6. Wait, is it? Yes, it is 6.",
    ],
)
def test_nothing_is_corrected_where_nothing_was_said_or_taken_back(text: str) -> None:
    assert correction(text) is None
