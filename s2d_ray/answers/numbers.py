"""Exact numbers as people and models write them.

A number is a `Fraction`, so that 11 digits stay 11 digits and 6/3 is 2. Currency and percent signs are units: `$5` and
`50%` read as 5 and 50. `1,5` may be one number or two, and reads as two; `0,5`, `1.234,56` and `12 000` can only be
one. Dates, times, versions, ordinals and digits within words are no numbers; between Chinese, Japanese and Korean
letters, which no spaces set apart, there are some.
"""

import logging
import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import NamedTuple

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\ufe63\uff0d\u2010\u2011\u2012\u2013", "-"),
        **dict.fromkeys("\u2044\u2215\uff0f", "/"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f\u2006\u2008", " "),
        **dict.fromkeys("\u2019\u02bc", "'"),
        **dict.fromkeys("\uff0c\u066c", ","),
        **dict.fromkeys("\uff0e\u066b", "."),
        **dict.fromkeys("\u00d7\u22c5\u2715", "*"),
        "\uff05": "%",
        "\uff04": "$",
        "\uff0b": "+",
        "\uff1d": "=",
    }
)
_LATEX = (
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?<=\d)\s*\\[dtc]?frac"), r" \\frac"),
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\{([,.])\}"), r"\1"),
    (re.compile(r"\\!|\\left|\\right"), ""),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\^\{([^{}]+)\}"), r"^\1"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[,;: ()\[\]]"), " "),
    (
        re.compile(
            r"(?:\bnegative|(?:^|(?<=\bis )|(?<=\bof )|(?<=\bto )|(?<=[:=] ))minus) (?=[$€£]?\.?\d)", re.IGNORECASE
        ),
        "-",
    ),
)
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_MANY = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
    **{"lakh": 10**5, "crore": 10**7, "百": 10**2, "千": 10**3},
    **dict.fromkeys("万萬", 10**4),
    **dict.fromkeys("亿億", 10**8),
}
_MULTIPLE = r"(?:(?:hundred|thousand|million|billion|trillion|lakh|crore)\b|[百千万萬亿億])"
_NUMBER = re.compile(
    rf"""(?<![^\W{_UNSPACED}])(?<![\^第])(?<!\d[.:/])
    (?P<sign>-)?(?P<money>[$€£¥₹]\ ?)?(?P<inner>-)?
    (?:
        (?P<whole>\d+)(?:\ |-)(?P<top>\d+)/(?P<bottom>\d+)                    # 2 3/4
      | (?P<number>
            \d{{1,3}}(?:,\d{{3}})+(?:\.\d+)? | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?:\.\d+)?  # 1,234.5 and 12,34,567
          | \d{{1,3}}(?:\.\d{{3}})+,\d+ | \d{{1,3}}(?:\.\d{{3}}){{2,}}                   # 1.234,5 and 1.234.567
          | \d{{1,3}}(?:\ \d{{3}})+(?:[.,]\d+)?(?!\ ?[\d/])                        # 12 000
          | \d{{1,3}}(?:'\d{{3}})+(?:\.\d+)?                                       # 12'000
          | 0,\d+(?!,\d) | \d+,\d\d(?=\ ?€)                                    # 0,5 and 12,50 €
          | \d+(?:\.\d+)? | \.\d+
        )
        (?P<exponent>[eE][+-]?\d{{1,3}} | \ ?[x*]\ ?10\^[+-]?\d{{1,3}})?
        (?:\ ?/\ ?(?P<under>\d+(?:\.\d+)?))?
    )
    (?P<many>(?:\ ?{_MULTIPLE})*)
    (?![\d^]|[.:/]\d|(?:st|nd|rd|th)\b)
    """,
    re.VERBOSE | re.IGNORECASE,
)

LONGEST = 1000
"""Characters of a number, with its unit, at most: no text is to take its reader's time."""


class Number(NamedTuple):
    """A number in a text."""

    value: Fraction
    written: str
    """Plainly: without units and separators, with a point for decimals."""
    start: int
    end: int
    """Where it stands in the text as `plain` gives it."""
    money: bool


def plain(text: str) -> str:
    """The text with its numbers in ASCII: digits and signs of all scripts, vulgar fractions, powers, LaTeX."""
    text = "".join(_ascii(char) for char in text).translate(_CHARACTERS)
    text = re.sub(r"\^(\d)(?:\^(?=\d))+", r"^\1", text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _ascii(char: str) -> str:
    if char.isascii():
        return char
    kind, _, parts = unicodedata.decomposition(char).partition(" ")
    if kind == "<fraction>":
        return "\\frac{" + "".join(chr(int(part, 16)) for part in parts.split()).replace("\u2044", "}{") + "}"
    if kind == "<super>" and char.isdigit():
        return f"^{unicodedata.digit(char)}"
    return str(unicodedata.decimal(char, char))


def numbers(text: str) -> list[Number]:
    """Every number in the text, in order."""
    text = plain(text)
    found = (_number(match, text) for match in _NUMBER.finditer(text))
    return [number for number in found if number is not None]


def _number(match: re.Match[str], text: str) -> Number | None:
    if len(match.group()) > LONGEST:
        return None
    if match["whole"]:
        if not int(match["bottom"]):
            return None
        value = int(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
        written = str(value)
    else:
        written = _decimal(match["number"])
        value = Fraction(written) * Fraction(10) ** _power(match["exponent"])
        if match["under"]:
            if not Fraction(match["under"]):
                return None
            value /= Fraction(match["under"])
        if match["exponent"] or match["many"]:
            value *= prod(_MANY[one.lower()] for one in re.findall(_MULTIPLE, match["many"], re.IGNORECASE))
            written = str(value)
        elif match["under"]:
            both = f"{written}/{match['under']}"
            written = both if both.replace("/", "").isdigit() else str(value)
    if match["inner"] or (match["sign"] and _is_sign(text, match.start())):
        value, written = -value, f"-{written}"
    return Number(value, written, match.start(), match.end(), bool(match["money"]))


def _power(exponent: str | None) -> int:
    return int(re.split(r"[eE^]", exponent)[-1]) if exponent else 0


def _decimal(digits: str) -> str:
    """Digits with separators of thousands, as Python reads them."""
    digits = re.sub(r"[ ']", "", digits)
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}", digits):
        return digits.replace(".", "").replace(",", ".")
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?", digits):
        return digits.replace(",", "") if not digits.startswith("0,") else digits.replace(",", ".")
    return digits.replace(",", ".")


def _is_sign(text: str, place: int) -> bool:
    """Whether a minus there is a sign: not one between two numbers."""
    before = text[max(0, place - 5) : place].rstrip()
    return not before or before[-1] not in "0123456789)"


_UNIT = re.compile(
    r"\s?(?:[%°€£¥₹]|°?[^\W\d_]{2,}(?:[ /][^\W\d_]+){0,2})?"
    r"(?<!\bk)(?<!\bdozen)(?<!\bdozens)"
)
_NO_UNIT = re.compile(
    r"\b(?:and|are|at|for|from|had|has|have|in|is|less|minus|more|not|of|on|or|out|over|plus|squared|than|times|to|was"
    r"|were)\b|[π√∞]"
)


def with_unit(answer: str) -> tuple[Number, str] | None:
    """The number and the unit behind it, of an answer that is nothing else (`5 km`, `**$18.**`); else None.

    Letters (`2x`) and multiples (`3 dozen`) are no units. `$` and dollars are none either: they go without saying.
    """
    if len(answer) > LONGEST:
        return None
    text = re.sub(r"^[\s*_`\"']+|[\s*_`\"'.,;:$]+$", "", plain(answer))
    found = numbers(text)
    if len(found) != 1 or found[0].start:
        return None
    money = re.search(r"[€£¥₹]", text[: found[0].end])
    unit = text[found[0].end :]
    if not _UNIT.fullmatch(unit) or _NO_UNIT.search(unit):
        return None
    unit = re.sub(r"^(?:us ?)?dollars?$|^usd$", "", unit.strip(), flags=re.IGNORECASE)
    return found[0], unit or (money.group() if money else "")


def value_of(answer: str) -> Fraction | None:
    """The value of an answer that is one number or a term of numbers, with or without a unit; else None."""
    one = with_unit(answer)
    return one[0].value if one else _value_of_term(answer)


_TERM = re.compile(r"(?:[\d\s.+*/^(){}-]|\\sqrt(?=\{)|\\[dt]?frac(?=\{)|\\(?:cdot|times|div|left|right)\b){1,100}")
_UNCLEAR = re.compile(r"\d\s+\d|[\d)}]\s*\(|\)\s*\d|^\s*[\d.]+\s*-\s*[\d.]+\s*$")
"""A mixed number or two, a factor or two, a difference or a range."""
_ENDLESS = re.compile(r"\^.*\^|\^\D?-?\d{3}|\^\{?\(|\d{20}")
"""A power of a power would take its reader's time too."""


@lru_cache(maxsize=65536)
def _value_of_term(term: str) -> Fraction | None:
    if not _TERM.fullmatch(term) or _UNCLEAR.search(term) or _ENDLESS.search(term):
        return None
    # Imported here: sympy takes a second, and few answers are terms.
    from math_verify import parse
    from sympy import Rational, nsimplify

    # Its time limit is a signal, which only a main thread may set; one short term needs none.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed = parse(f"\\boxed{{{term}}}", parsing_timeout=None)
    value = nsimplify(parsed[0].doit(), rational=True) if parsed and not isinstance(parsed[0], str) else None
    return Fraction(int(value.p), int(value.q)) if isinstance(value, Rational) and value.q else None
