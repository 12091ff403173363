"""When two answers are the same: a registry of what is made of each before they are compared.

An answer that is not empty never becomes an empty key.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

from s2d_ray.answers.number_answers import answering_number
from s2d_ray.answers.numbers import plain

_ARTICLES = re.compile(r"\b(?:a|an|the)\b(?=\s+\S)")
_NUMERAL = r"-?(?:\d[\d.,/]*|[a-z]|∞|infinity|inf)"
# What punctuation is kept, because the meaning hangs on it.
_KEPT = re.compile(
    rf"[\[\](]\s*{_NUMERAL}\s*[,;]\s*[+-]?{_NUMERAL}\s*[\])\[]"  # an interval: open or closed
    r"|(?<!\w)-(?=\.?\d|[a-z]\b|∞)|(?<!\w)\.(?=\d)"  # a sign, a point
    r"|(?<=\d)[^\w\s](?=\d)|(?<=\d)%"  # 1.5, 1/2, 3:30, 5%
    r"|(?<=\w)\#"  # C#
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")


def exact(answer: str) -> str:
    """As written, without surrounding white space."""
    return answer.strip()


def caseless(answer: str) -> str:
    """Upper and lower case, runs of white space, and forms of the same character make no difference."""
    return " ".join(_composed(answer).casefold().split())


def words(answer: str) -> str:
    """As `caseless`, and punctuation and articles make no difference (the usual trivia comparison).

    A sign, a point within a number, and a symbol stay: -5, 1.5, C++, [0, 1).
    """
    text = caseless(plain(answer)).replace("&", " and ")
    text = _THOUSANDS.sub(lambda found: found.group().replace(",", ""), text)
    kept, last = [], 0
    for found in _KEPT.finditer(text):
        kept += [_without_punctuation(text[last : found.start()]), re.sub(r"\s", "", found.group())]
        last = found.end()
    spaced = " ".join("".join([*kept, _without_punctuation(text[last:])]).split())
    return " ".join(_ARTICLES.sub(" ", spaced).split()) or caseless(answer)


def number(answer: str) -> str:
    """The exact value of the number in the answer, so that `$1,200.00` and `1200` are equal; as `words` without one."""
    found = answering_number(answer)
    several = re.search(r"\d (?:of|out of|to) \d", answer)
    return words(answer) if found is None or several else str(found.value)


def _composed(text: str) -> str:
    """One form of each character. A power keeps that it is one: x² is not x2."""
    powers = re.sub(r"[²³¹⁰⁴-⁹]+", lambda found: "^" + found.group(), text)
    return unicodedata.normalize("NFKC", powers)


def _without_punctuation(text: str) -> str:
    return "".join(char for char in text if not (unicodedata.category(char).startswith("P") or char == "`"))


NORMALISATIONS: Mapping[str, Callable[[str], str]] = {
    "exact": exact,
    "caseless": caseless,
    "words": words,
    "number": number,
}
