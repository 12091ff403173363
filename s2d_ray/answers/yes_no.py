"""Whether a text says yes or no."""

import re

from s2d_ray.answers.final import NOTHING, final_answer
from s2d_ray.answers.sentences import asserted, correction, straight

# `no` is an answer only where no noun follows it: `no one`, `no longer` and `no change` are none.
_SAID = re.compile(
    r"\b(?:(?P<yes>yes|yeah|yep)|(?P<no>no|nope)(?=\W{0,20}$|[ \t]{0,3}[.,;:!?)(\[*\"'`\n\u2013\u2014\u2026]|\s{1,3}-"
    r"|\s+(?:it|the|he|she|they|this|that|because|since|as|so|we|i|you|after|both|and|is)\b))\b",
    re.IGNORECASE,
)

_OR = r"(?:\W{1,5}(?:and|or)\W{1,5}|\s{0,3}/\s{0,3})"
_BOTH = re.compile(rf"\byes{_OR}no\b|\bno{_OR}yes\b", re.IGNORECASE)


def yes_no(text: str) -> str | None:
    """`yes` or `no`: of the final answer that the text marks, its first word, or all such words in it.

    None where it has neither, or both without a mark or correction.
    """
    text = straight(text)
    marked = final_answer(text)
    if marked == NOTHING:
        return None
    if marked and (found := _of(marked)):
        return found
    corrected = correction(text)
    if corrected is not None and ((later := _of(corrected.tail)) or corrected.withdrawn):
        return later
    return _of(asserted(text))


def _of(text: str) -> str | None:
    text = _BOTH.sub(" ", text)
    found = [match.lastgroup for match in _SAID.finditer(text)]
    if len(set(found)) == 1:
        return found[0]
    first = _SAID.match(text.lstrip(" \t\n*_`\"'([#>-"))
    return first.lastgroup if first else None
