"""Texts that are too long to be an answer are read by their start and their end, and keep no reader busy."""

from collections.abc import Callable
from time import process_time

import pytest

from s2d_ray.answers.lengths import LONGEST, readable
from s2d_ray.answers.normalisation import words
from s2d_ray.answers.number_answers import answering_number
from s2d_ray.answers.numbers import value_of
from s2d_ray.answers.verdicts import closed_verdict, read_verdict
from s2d_ray.answers.yes_no import yes_no
from s2d_ray.data.records import Prompt, user
from s2d_ray.tasks.coin_flip import CoinFlip
from s2d_ray.tasks.last_letter import LastLetter

COIN = Prompt("p", [user("Is the coin still heads up?")])
EDGAR = Prompt("id", [user("")], {"words": "Edgar Bob"})


def coin(text: str) -> str | None:
    return CoinFlip().parse(text, COIN)


def letters(text: str) -> str | None:
    return LastLetter().parse(text, EDGAR)


OF_VERDICTS = (read_verdict, closed_verdict, yes_no, coin)
OF_NUMBERS = (answering_number, letters, words, value_of)
VERDICT_PIECES = (
    *("(", "`", "[[ ", "A ", "A is ", "more x and ", "response A "),
    *("heads ", "start ", "was heads ", "no - ", "yes/"),
)
NUMBER_PIECES = ("\nnote: 5", "**", "twenty ", "r and ")


@pytest.mark.parametrize(
    ("piece", "readers"),
    [*((piece, OF_VERDICTS) for piece in VERDICT_PIECES), *((piece, OF_NUMBERS) for piece in NUMBER_PIECES)],
)
def test_a_text_of_100_kb_keeps_no_reader_busy(piece: str, readers: tuple[Callable[[str], object], ...]) -> None:
    text = (piece * 100_000)[:100_000]
    start = process_time()
    for read in readers:
        read(text)
    # A guard against regular expressions of quadratic time, of which each would take a minute here.
    assert process_time() - start < 3


def test_a_long_text_is_read_by_its_start_and_its_end() -> None:
    assert readable("x" * LONGEST) == "x" * LONGEST
    assert len(readable("x" * 100_000)) <= LONGEST
    words = " ".join(map(str, range(100_000)))
    head, tail = readable(words).split("\n\n")
    assert words.startswith(f"{head} ")
    assert words.endswith(f" {tail}")


def test_an_answer_at_either_end_of_a_long_text_is_read() -> None:
    filler = "The question has many sides. " * 4000
    assert read_verdict(f"[[A]] {filler}") == read_verdict(f"{filler} [[A]]") == "A"
    assert yes_no(f"No. {filler}") == yes_no(f"{filler} So no.") == "no"


def test_the_answer_at_the_end_of_a_long_text_counts() -> None:
    found = answering_number("5 of them. " * 10_000 + "The answer is 72.")
    assert found is not None
    assert found.value == 72
    assert letters("Edgar ends in r. " * 10_000 + "It's rb.") == "rb"
