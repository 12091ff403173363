"""Exact numbers in texts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.answers.numbers import numbers, value_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.5 and 12,34,567", ["2469/2", "1234567"]),
        ("1.234,56 and 1.234.567", ["30864/25", "1234567"]),
        ("12 000 and 12\u00a0000, 12\u2009000, 12\u202f000", ["12000"] * 4),
        ("12'000 and 12\u2019000", ["12000"] * 2),
        ("in 2019 300 people", ["2019", "300"]),
        ("1,5 or 0,5", ["1", "5", "1/2"]),
        ("\\frac{3}{4}, \\dfrac34 and 1\\frac{1}{2}", ["3/4", "3/4", "3/2"]),
        ("1{,}234 and 12\\,000", ["1234", "12000"]),
        ("½, 2½, ¾ and 1\u20443", ["1/2", "5/2", "3/4", "1/3"]),
        ("6/3 and 2 3/4", ["2", "11/4"]),
        ("-5, \u22125, ﹣5, -$5, $-5, (-5)", ["-5"] * 6),
        ("10 - 5 and 10-5", ["10", "5", "10", "5"]),
        ("\uff11\uff12 and ٣٤", ["12", "34"]),
        ("1.5e3, 2E-2, 3 \u00d7 10^5 and 2\u00d710⁵", ["1500", "1/50", "300000", "200000"]),
        ("2.5 million and 3 thousand", ["2500000", "3000"]),
        ("50%, €1.50 and 3 apples", ["50", "3/2", "3"]),
        ("12345678901 and 12345678902", ["12345678901", "12345678902"]),
        ("10:30, 1.2.3, 12/25/2020, H2O, A4, 1st, x²", []),
        ("3 hundred, 5 hundred thousand, 2 lakh and 3千万", ["300", "500000", "200000", "30000000"]),
        ("-5, minus 5: minus 5, negative 5 is 10 minus 5", ["-5", "5", "-5", "-5", "10", "5"]),
        ("第2步\uff0c她赚18美元", ["18"]),
        ("7/0", []),
        ("none", []),
    ],
)
def test_numbers_are_read_exactly(text: str, values: list[str]) -> None:
    assert [number.value for number in numbers(text)] == [Fraction(value) for value in values]


@given(st.fractions())
def test_a_value_that_is_written_is_read_as_itself(value: Fraction) -> None:
    assert value_of(str(value)) == value
    [number] = numbers(str(value))
    assert (number.value, Fraction(number.written)) == (value, value)


@given(st.integers(-(10**15), 10**15), st.sampled_from(",.' \u00a0\u2009\u202f"))
def test_separators_of_thousands_change_nothing(value: int, separator: str) -> None:
    written = f"{value:,}".replace(",", separator)
    if separator != "." or abs(value) >= 10**6 or abs(value) < 1000:
        assert value_of(written) == value


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("2^{10}", 1024),
        ("\\sqrt{16}", 4),
        ("6 \\div 2", 3),
        ("48 + 24", 72),
        ("9^{9^{9}}", None),
        ("9^{999}", None),
        ("5 6", None),
        ("2(3)", None),
        ("3-5", None),
        ("16 - 3", None),
        ("16 - 3 - 4", 9),
        ("2\\pi", None),
        ("5!", None),
    ],
)
def test_a_term_has_a_value_where_it_takes_no_time(term: str, value: int | None) -> None:
    assert value_of(term) == value


@given(st.text(alphabet="0123456789.,/ -+^*{}\\$%eE½²x", max_size=40))
def test_any_text_can_be_read(text: str) -> None:
    for number in numbers(text):
        assert Fraction(number.written) == number.value
