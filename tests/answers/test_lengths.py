"""Texts that are too long to be an answer are read in time, by their start and their end."""

from collections.abc import Callable
from time import process_time

import pytest

from s2d_ray.answers.lengths import LONGEST, readable
from s2d_ray.answers.normalisation import words
from s2d_ray.answers.number_answers import answering_number
from s2d_ray.answers.numbers import value_of
from s2d_ray.data.records import Prompt, user
from s2d_ray.tasks.last_letter import LastLetter

EDGAR = Prompt("id", [user("")], {"words": "Edgar Bob"})


def letters(text: str) -> str | None:
    return LastLetter().parse(text, EDGAR)


def test_a_long_text_is_read_by_its_start_and_its_end() -> None:
    assert readable("x" * LONGEST) == "x" * LONGEST
    assert len(readable("x" * 100_000)) <= LONGEST
    words = " ".join(map(str, range(100_000)))
    head, tail = readable(words).split("\n\n")
    assert words.startswith(f"{head} ")
    assert words.endswith(f" {tail}")


def test_the_answer_at_the_end_of_a_long_text_counts() -> None:
    found = answering_number("5 of them. " * 10_000 + "The answer is 72.")
    assert found is not None
    assert found.value == 72
    assert letters("Edgar ends in r. " * 10_000 + "It's rb.") == "rb"


@pytest.mark.parametrize("read", [answering_number, letters, words, value_of])
@pytest.mark.parametrize("part", ["\nnote: 5", "**", "twenty ", "r and "])
def test_a_text_of_50_kb_is_read_in_time(read: Callable[[str], object], part: str) -> None:
    started = process_time()
    read(part * (50_000 // len(part)))
    assert process_time() - started < 4
