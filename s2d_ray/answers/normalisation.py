"""When two answers are the same: a registry of what is made of each before they are compared.

An answer that is not empty never becomes an empty key. Keys that differ for equal answers are the lesser evil than one
key for two answers.
"""

import json
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

from s2d_ray.answers.final import final_answer
from s2d_ray.answers.lengths import readable
from s2d_ray.answers.numbers import plain, value_of, with_unit

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_ARTICLES = re.compile(r"(?<!\S)(?:a|an|the)(?=\s+\S)")


def exact(answer: str) -> str:
    """As written, without surrounding white space."""
    return answer.strip()


def caseless(answer: str) -> str:
    """Upper and lower case, runs of white space, and forms of the same character make no difference."""
    return " ".join(_composed(answer).casefold().split())


def words(answer: str) -> str:
    """As `caseless`, and punctuation and articles make no difference (the usual trivia comparison).

    In formulas all signs count, and the spaces between them do not: -5, 1.5, x*y, f'(x), [0, 1), C++.
    """
    text = _INVISIBLE.sub("", caseless(plain(answer))).translate(_ALIKE)
    text = _spaced_alike(re.sub(r"^\$([^$]+)\$$", r"\1", text))
    if _WORD.search(_NAMES.sub(" ", text)):
        # An exclamation mark there is no factorial.
        text = re.sub(r"!+(?=[^\w\s]*(?:\s|$))", "", text)
    spaced = " ".join(" ".join(map(_of_token, text.split())).split())
    return " ".join(_ARTICLES.sub(" ", spaced).split()) or caseless(answer)


def number(answer: str) -> str:
    """The exact value and the unit of an answer that is a number: `$1,200.00` and `1200` are equal, `5 km` and `5` not.

    It may be marked, led in (`it is`) or the result of a sum (`3 + 4 = 7`), or be a term of numbers. As `words` where
    an answer is anything else.
    """
    said = _RESULT_OF.sub("", _LEAD.sub("", plain(final_answer(readable(answer)) or answer)))
    one = with_unit(said)
    if one is None:
        value = value_of(said)
        return words(answer) if value is None else str(value)
    return f"{one[0].value} {words(one[1])}".strip().replace(" %", "%")


_LEAD = re.compile(
    r"^\s*(?:(?:so|thus|therefore|hence|then|it's|it|that|this|is|was|equals|the(?: answer| result| total)?)\b"
    r"[\s,:]*)+",
    re.IGNORECASE,
)
_RESULT_OF = re.compile(r"^(?:\s*[^\W\d_]{1,30}\s*|[\d\s.+*/()^-]{1,100})=(?=[^=]+$)")


def _composed(text: str) -> str:
    """One form of each character. A power keeps that it is one: x² is not x2."""
    powers = re.sub(r"[²³¹⁰⁴-⁹]+", lambda found: "^" + found.group(), text)
    return unicodedata.normalize("NFKC", powers)


_ALIKE = str.maketrans({"&": " and ", "\u2032": "'", "\u00b7": "*"})
_THOUSANDS = re.compile(r"(?<![\d.,\[({])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\d.,\[({])(?<!\d )\d{1,3}(?: \d{3})+(?! ?\d)")
_SPACES = (
    (re.compile(r"(?<=\d) (?=%)"), ""),
    (re.compile(r"([$€£¥₹]\d+)\.0+(?![\d.])"), r"\1"),
    (re.compile(r"^[-\u2014] ?(?=[\d.$€£√(]|[^\W\d_](?![^\W\d_]))"), "-"),
    (re.compile(r" ?([=<>≤≥≠≈]) ?"), r"\1"),
    (re.compile(r"(?<![^\W\d_][^\W\d_]) ([*/+-]) (?![^\W\d_]{2})"), r"\1"),
)
_TUPLE = re.compile(r"[\[({][^\[\](){}]*[,;][^\[\](){}]*[\])}]")
_NAMES = re.compile(
    r"\\[a-z]+|(?<![a-z])(?:ln|log|exp|sin|cos|tan|lim|max|min|mod|gcd|lcm|det|sqrt|pi|inf|infinity)(?![a-z])"
)
"""What letters stand for in formulas, beside one or two of them."""
_LONG = re.compile(r"[^\W\d_]{3}")
_WORD = re.compile(r"[^\W\d_]{3}|(?<!\S)[^\W\d_]{2}(?![^\s'])")


def _spaced_alike(text: str) -> str:
    """Numbers without separators of thousands, and formulas without spaces around their signs."""
    text = _THOUSANDS.sub(lambda found: re.sub("[, ]", "", found.group()), text)
    for pattern, replacement in _SPACES:
        text = pattern.sub(replacement, text)
    return _TUPLE.sub(
        lambda found: found.group() if _LONG.search(_NAMES.sub("", found.group())) else found.group().replace(" ", ""),
        text,
    )


def _of_token(token: str) -> str:
    """What counts of a part of a text without spaces: all of a formula, the letters and digits of a word."""
    token = "".join(char for char in token if char in _SIGNS or not unicodedata.category(char).startswith("P"))
    opened = re.match(r"[\"'`*_#]*", token).group()  # type: ignore[union-attr]
    bare = token[len(opened) :].rstrip("`.,;:?" + opened).removesuffix("**")
    bare = re.sub(r"(?<!\d)\"[.,;:?]*$", "", bare)  # 5" are inches
    if re.fullmatch(r"\(\w+\)|\[+[a-z]\]+", bare) or _unbalanced(bare):
        bare = bare.strip("()[]{}")
    # `D.C.`, `it's` and the 1970's.
    if re.fullmatch(r"[^\W\d_](?:\.[^\W\d_])+|[^\W\d_]+'[^\W\d_]+|\d+'s", bare):
        return bare.replace(".", "").replace("'", "")
    formula = re.search(r"[\w\u2200-\u22ff]", bare) and not _LONG.search(_NAMES.sub("", bare))
    return bare if formula else _without_punctuation(token)


_SIGNS = frozenset(string.punctuation + "\u2030\u2033\u2016\u2308\u2309\u230a\u230b\u27e8\u27e9")
"""ASCII; per mille, double primes, norms, floors and ceilings, angle brackets."""
_KEPT = re.compile(r"((?<!\w)-(?=\.?\d)|(?<!\w)\.(?=\d)|(?<=\d)[^\w\s](?=\d)|(?<=\d)%)")
"""What counts of the punctuation of a word with digits."""


def _unbalanced(token: str) -> bool:
    return sum(map(token.count, "([{")) != sum(map(token.count, ")]}"))


def _without_punctuation(token: str) -> str:
    parts = _KEPT.split(token)
    return "".join(
        part if place % 2 else "".join(c for c in part if c != "`" and not unicodedata.category(c).startswith("P"))
        for place, part in enumerate(parts)
    )


def fields(answer: str) -> str:
    """JSON field by field: the order of an object's keys does not matter, a list's does; numbers count by their exact
    value, texts as `words`. It may stand in a code fence. As `words` where an answer is anything else.
    """
    written = re.sub(r"^```\w*\s*\n|\n\s*```$", "", answer.strip())
    try:
        content = json.loads(written, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
        return _key_of(content)
    except (ValueError, ArithmeticError, RecursionError):
        return words(answer)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _key_of(content: Any) -> str:
    """JSON again, equal for parts that are."""
    match content:
        case dict():
            return "{" + ", ".join(f"{_text(key)}: {_key_of(content[key])}" for key in sorted(content)) + "}"
        case list():
            return "[" + ", ".join(map(_key_of, content)) + "]"
        case Decimal():
            return _exact(content)
        case str():
            return _text(words(content))
    return json.dumps(content)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _exact(number: Decimal) -> str:
    """The one way to write a value, without rounding."""
    if not number:
        return "0"
    wide = Context(prec=len(number.as_tuple().digits), Emin=MIN_EMIN, Emax=MAX_EMAX)
    return f"{number.normalize(wide):f}" if abs(number.adjusted()) < PLAIN_DIGITS else str(number.normalize(wide))


PLAIN_DIGITS = 30
"""Of a number that is written without a power of ten."""


NORMALISATIONS: Mapping[str, Callable[[str], str]] = {
    "exact": exact,
    "caseless": caseless,
    "words": words,
    "number": number,
    "json": fields,
}
