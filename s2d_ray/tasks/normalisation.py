"""When two answers are the same: a registry of what is made of each before they are compared."""

import re
import string
import unicodedata
from collections.abc import Callable, Mapping

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact(answer: str) -> str:
    """As written, without surrounding white space."""
    return answer.strip()


def caseless(answer: str) -> str:
    """Upper and lower case, and runs of white space, make no difference."""
    return " ".join(unicodedata.normalize("NFKC", answer).casefold().split())


def words(answer: str) -> str:
    """As `caseless`, and punctuation and articles make no difference (the usual trivia comparison)."""
    return " ".join(_ARTICLES.sub(" ", caseless(answer).translate(_PUNCTUATION)).split())


def number(answer: str) -> str:
    """The last number in the answer, so that `$1,200.00` and `1200` are equal; as `words` without one."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", answer)
    if not found:
        return words(answer)
    return f"{float(found[-1].replace(',', '')):.10g}"


NORMALISATIONS: Mapping[str, Callable[[str], str]] = {
    "exact": exact,
    "caseless": caseless,
    "words": words,
    "number": number,
}
