"""When two answers count as equal."""

import pytest

from s2d_ray.tasks.normalisation import NORMALISATIONS

SAMPLES = (
    "Paris",
    "  The  PARIS\n",
    "a b",
    "$1,200.00",
    "-3.50 degrees",
    "10 of 12",
    "Straße",
    "25 ㎞",
    "don't",
    "…",
    "",
    "1e6",
    "Müller",
    "1.",
)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("exact", " Paris\n", "Paris"),
        ("caseless", "PARIS", "paris"),
        ("caseless", "New   York\n", "new york"),
        ("caseless", "Straße", "STRASSE"),
        ("caseless", "25 ㎞", "25 km"),
        ("words", "The Paris.", "paris"),
        ("words", "the  United   States!", "United States"),
        ("words", "Washington, D.C.", "washington dc"),
        ("words", "an apple", "Apple"),
        ("number", "$1,200.00", "1200"),
        ("number", "3 + 4 = 7", "The answer is 7."),
        ("number", "-3.50", "-3.5"),
        ("number", "12,345,678", "12345678"),
        ("number", "0.10", "0.1"),
        ("number", "I do not know", "I do not know!"),
    ],
)
def test_equal(name: str, one: str, other: str) -> None:
    assert NORMALISATIONS[name](one) == NORMALISATIONS[name](other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("exact", "Paris", "paris"),
        ("exact", "a  b", "a b"),
        ("caseless", "Paris.", "Paris"),
        ("caseless", "the Paris", "Paris"),
        ("caseless", "Müller", "Muller"),
        ("words", "theatre", "atre"),
        ("words", "banana", "bnn"),
        ("words", "New York", "York"),
        ("number", "7", "-7"),
        ("number", "7 of 10", "7"),
        ("number", "1.5", "15"),
        ("number", "123456789", "123456788"),
        ("number", "yes", "no"),
    ],
)
def test_different(name: str, one: str, other: str) -> None:
    assert NORMALISATIONS[name](one) != NORMALISATIONS[name](other)


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("text", SAMPLES)
def test_normalising_twice_is_normalising_once(name: str, text: str) -> None:
    once = NORMALISATIONS[name](text)
    assert NORMALISATIONS[name](once) == once


@pytest.mark.parametrize("name", ["exact", "caseless", "words"])
def test_nothing_stays_nothing(name: str) -> None:
    assert NORMALISATIONS[name](" \n") == ""
