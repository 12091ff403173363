"""Readers of a verdict and of yes or no take no longer than a moment, however long and odd a text is."""

from collections.abc import Callable
from time import process_time

import pytest

from s2d_ray.answers.verdicts import closed_verdict, read_verdict
from s2d_ray.answers.yes_no import yes_no
from s2d_ray.data.records import Prompt, user
from s2d_ray.tasks.coin_flip import CoinFlip

COIN = Prompt("p", [user("Is the coin still heads up?")])
READERS: list[Callable[[str], str | None]] = [
    read_verdict,
    closed_verdict,
    yes_no,
    lambda text: CoinFlip().parse(text, COIN),
]
PIECES = (
    "(",
    "`",
    "[[ ",
    "A ",
    "A is ",
    "more x and ",
    "response A ",
    "heads ",
    "start ",
    "was heads ",
    "no - ",
    "yes/",
)


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_is_read_in_a_moment(piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    start = process_time()
    for read in READERS:
        read(text)
    assert process_time() - start < 3


def test_an_answer_at_either_end_of_a_long_text_is_read() -> None:
    filler = "The question has many sides. " * 4000
    assert read_verdict(f"[[A]] {filler}") == read_verdict(f"{filler} [[A]]") == "A"
    assert yes_no(f"No. {filler}") == yes_no(f"{filler} So no.") == "no"
