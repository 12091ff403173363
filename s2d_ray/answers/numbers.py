"""Exact numbers as people and models write them, and which of several in a text answers the question.

A number is a `Fraction`, so that 11 digits stay 11 digits and 6/3 is 2. Currency and percent signs are units: `$5` and
`50%` read as 5 and 50. `1,5` may be one number or two, and reads as two; `0,5`, `1.234,56` and `12 000` can only be
one. Dates, times, versions, ordinals and digits within words are no numbers.
"""

import logging
import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from s2d_ray.answers.final import final_answer
from s2d_ray.answers.sentences import asks, sentences, without_others

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
)
_NUMBER = re.compile(
    r"""(?<![\w^])(?<!\d[.:/])
    (?P<sign>-)?(?P<money>[$€£¥₹]\ ?)?(?P<inner>-)?
    (?:
        (?P<whole>\d+)(?:\ |-)(?P<top>\d+)/(?P<bottom>\d+)                    # 2 3/4
      | (?P<number>
            \d{1,3}(?:,\d{3})+(?:\.\d+)? | \d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?  # 1,234.5 and 12,34,567
          | \d{1,3}(?:\.\d{3})+,\d+ | \d{1,3}(?:\.\d{3}){2,}                   # 1.234,5 and 1.234.567
          | \d{1,3}(?:\ \d{3})+(?:[.,]\d+)?(?!\ ?[\d/])                        # 12 000
          | \d{1,3}(?:'\d{3})+(?:\.\d+)?                                       # 12'000
          | 0,\d+(?!,\d) | \d+,\d\d(?=\ ?€)                                    # 0,5 and 12,50 €
          | \d+(?:\.\d+)? | \.\d+
        )
        (?P<exponent>[eE][+-]?\d{1,3} | \ ?[x*]\ ?10\^[+-]?\d{1,3})?
        (?:\ ?/\ ?(?P<under>\d+(?:\.\d+)?))?
    )
    (?:\ ?(?P<many>thousand|million|billion|trillion)\b)?
    (?![\d^]|[.:/]\d|(?:st|nd|rd|th)\b)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MANY = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


LONGEST = 1000
"""Characters of a number at most: no text is to take its reader's time."""


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
            value *= _MANY[match["many"].lower()] if match["many"] else 1
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


def value_of(answer: str) -> Fraction | None:
    """The value of an answer that is one number or a term of numbers, with or without a unit; else None."""
    found = numbers(answer)
    if len(found) == 1 and not _OPERATION.search(plain(answer)):
        return found[0].value
    return _value_of_term(answer)


_OPERATION = re.compile(r"[\^*+]|\\sqrt")


@lru_cache(maxsize=65536)
def _value_of_term(term: str) -> Fraction | None:
    written = re.fullmatch(r"[\d\s.,+*/^(){}\\a-z-]{1,100}", term) and not re.search(r"(?<!\\)\b[a-z]{2,}", term)
    # A power of a power would take its reader's time too.
    if not written or re.search(r"\^.*\^|\^\D?-?\d{3}|\^\{?\(|\d{20}|!", term):
        return None
    # Imported here: sympy takes a second, and few answers are terms.
    from math_verify import parse
    from sympy import Rational, nsimplify

    # Its time limit is a signal, which only a main thread may set; one short term needs none.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    parsed = parse(f"\\boxed{{{term}}}", parsing_timeout=None)
    value = nsimplify(parsed[0].doit(), rational=True) if parsed and not isinstance(parsed[0], str) else None
    return Fraction(int(value.p), int(value.q)) if isinstance(value, Rational) and value.q else None


def answering_number(text: str) -> Number | None:
    """The number that a text gives as its answer; None where it gives none.

    The first of these that there is: the one in the final answer that the text marks; the last one in bold; that of
    the last sentence that concludes, or else of the last sentence with a number.
    """
    marked = final_answer(text, fits=_NUMERAL.search)
    if marked is not None:
        return _of_statement(marked) or _of_term(marked)
    text = _without_denied(text)
    for bold in reversed(re.findall(r"\*\*(?!step\b|\d+[.)])([^*\n]+?)\*\*(?!\s*:)", text, re.IGNORECASE)):
        if not bold.rstrip().endswith(":") and (found := _of_statement(bold)):
            return found
    said = [re.sub(r"^\W*(?:step\s*)?\d{1,2}[.):]\s+(?=\S)", "", one, flags=re.IGNORECASE) for one in sentences(text)]
    said = [one for one in said if not _CHECKS.search(one)] or said
    concluding = [place for place, one in enumerate(said) if _CONCLUDES.search(one)]
    # A sum after the conclusion goes on from it; a remark does not.
    sums = [one for one in said[concluding[0] :] if "=" in one or _CONCLUDES.search(one)] if concluding else []
    return next((found for one in (*sums[::-1], *said[::-1]) if (found := _of_statement(one))), None)


_NUMERAL = re.compile(
    r"\d|[\u00bc-\u00be\u2150-\u215e]|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen"
    r"|\w+ty|hundred|thousand|million|dozen|half|none)\b",
    re.IGNORECASE,
)
"""An answer in words is one, but cannot be read."""
_CONCLUDES = re.compile(r"^\W*(?:therefore|thus|hence|in conclusion|finally)\b", re.IGNORECASE)
_CHECKS = re.compile(
    r"\bto (?:double-?\s?)?check\b|\bto verify\b|\b(?:check|verification|verifying|checking):"
    r"|\blet me know\b|\bfeel free\b",
    re.IGNORECASE,
)
# What the result stands behind; where a sentence has none of these, one of the verbs after them.
_RESULT = re.compile(
    r"=|≈|\b(?:it|that|this|which)(?:'s| is| was| equals| makes| leaves)\b|\btotal (?:of|is|was)\b"
    r"|\brounds (?:\w+ )?to\b|(?<=\w[,;] )so\b",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|equals?|makes?|made|totals?|gives?|gave|leaves?|left with|costs?|comes? to|amounts? to"
    r"|adds? up to|gets?|receives?|received|earns?|earned|saves?|saved|spends?|spent|pays?|paid|needs?|needed|sells?"
    r"|sold|buys?|bought|has|have|had|takes?|took|eats?|ate|weighs?)\b",
    re.IGNORECASE,
)
_REASON = re.compile(r"(?<=\w)[ ,]+(?:because|since)\b", re.IGNORECASE)
_BESIDE = re.compile(
    r"\b(?:in|over|within|for|after|per|each|every|during|by|of|from|at|on|until|with|than)(?: \w+)?$", re.I
)
_OPERATOR = r"\s?[+*÷/]\s?|\s[x-]\s"


def _of_statement(statement: str) -> Number | None:
    """The number that a statement is about.

    One that is an operand, or stands in an aside (`in 2 months`), is so only where there is no other. Of several it is
    the first after the last `=`, `it is` or verb of having; without such a word the last.
    """
    text = plain(statement)
    reason = _REASON.search(text)
    found = [number for number in numbers(text) if not _operand(text, number)]
    found = [number for number in found if reason and number.end <= reason.start()] or found
    main = [number for number in found if number.money or not _aside(text, number)] or found
    for cue in (_RESULT, _VERB):
        for end in reversed([match.end() for match in cue.finditer(text)]):
            if after := [number for number in main if number.start >= end]:
                return None if _alternative(text, after[0]) else after[0]
    return main[-1] if main and not _alternative(text, main[-1]) else None


def _without_denied(text: str) -> str:
    """The text without its questions, and numbers that it says are not so or others' (`not 70`)."""
    text = without_others("\n".join(one for one in sentences(text) if not asks(one)))
    return re.sub(r"(?:\bnot|n't)\s+(?:\w+ly )?(?:[$€£]\s?)?[-\u2212]?\d[\d.,]*(?<=\d)", " ", text)


def _alternative(text: str, number: Number) -> bool:
    """Whether another number stands beside it for choice: `5 or 6`, `between 5 and 6`."""
    after, before = text[number.end :], _before(text, number)
    return bool(
        re.match(r"\W*(?:\w+\s+)?or\s+[$€£]?\d", after)
        or re.search(r"\d\W*(?:\w+\s+)?or\s+[$€£]?$|\bbetween\s+[$€£]?[\d.,]+\W*(?:\w+\s+)?and\s+[$€£]?$", before)
    )


def _before(text: str, number: Number) -> str:
    """The words before a number, as far as they matter to it."""
    return text[max(0, number.start - 40) : number.start]


def _operand(text: str, number: Number) -> bool:
    after = re.match(rf"\W?(?:{_OPERATOR})[$€£(]?\d", text[number.end :])
    return bool(after or re.search(rf"[\d)%]\s?(?:{_OPERATOR})[$€£(]?$", _before(text, number)))


def _aside(text: str, number: Number) -> bool:
    before = _before(text, number).rstrip(" $€£~")
    if re.match(r" times (?:as|more|the)\b", text[number.end :]):
        return True
    return bool(_BESIDE.search(before)) and not re.search(r"\b(?:total|sum|average|answer|amount)\s+of$", before, re.I)


def _of_term(term: str) -> Number | None:
    value = value_of(term)
    return None if value is None else Number(value, str(value), 0, len(term), False)
