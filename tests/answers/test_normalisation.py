"""When two answers count as equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.answers.normalisation import NORMALISATIONS

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
        ("words", "巴黎。", "巴黎"),
        ("words", "«Paris»", "Paris"),
        ("words", "“Paris”…", "Paris"),
        ("words", "\u22125", "-5"),
        ("words", "1,234", "1234"),
        ("words", "New\u00a0York", "new york"),
        ("words", "\uff30aris", "Paris"),
        ("words", "rock & roll", "Rock and Roll"),
        ("words", "[0, 1)", "[0,1)"),
        ("number", "$1,200.00", "1200"),
        ("number", "6/3", "2"),
        ("number", "\\frac{1}{2}", "0.5"),
        ("number", "12 000", "12000"),
        ("number", "\u22123", "-3"),
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
        ("words", "-5", "5"),
        ("words", "1.5", "15"),
        ("words", "1/2", "12"),
        ("words", "3:30", "330"),
        ("words", "5%", "5"),
        ("words", "C++", "C#"),
        ("words", "C++", "C"),
        ("words", "[0, 1]", "(0, 1)"),
        ("words", "[0, 1)", "(0, 1]"),
        ("words", "x < 5", "x > 5"),
        ("words", "x\u00b2", "x2"),
        ("words", "\\frac{1}{12}", "\\frac{11}{2}"),
        ("words", "$5", "€5"),
        ("words", "A", "B"),
        ("words", "A", "The"),
        ("words", "Vitamin A", "Vitamin"),
        ("words", "+", "?"),
        ("number", "12345678901", "12345678902"),
        ("number", "1/2", "3/2"),
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


@pytest.mark.parametrize("name", NORMALISATIONS)
@given(text=st.text())
def test_an_answer_that_is_not_empty_has_a_key_that_is_not_empty(name: str, text: str) -> None:
    assert bool(NORMALISATIONS[name](text)) == bool(text.strip())


@pytest.mark.parametrize("name", ["exact", "caseless", "words"])
def test_nothing_stays_nothing(name: str) -> None:
    assert NORMALISATIONS[name](" \n") == ""
