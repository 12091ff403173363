"""The answer that a text marks as its own: boxed, in tags, or said to be the answer.

    Some say Lyon. The answer is not Lyon but **Paris**, the capital.   →   Paris

The last mark counts. One that is denied (`The answer is not …`), asked, or said to be somebody else's is none; what a
text corrects after it (`Wait, no: …`) takes its place, and what it takes back leaves no answer.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from s2d_ray.answers.sentences import asks, correction, is_over, sentence_ends, straight

NOTHING = ""
"""What `final_answer` gives where the text says that it has no answer, or takes back what it gave."""
ANSWER = ("answer",)


class Mark(NamedTuple):
    """One marked answer."""

    answer: str
    start: int
    end: int
    """Of the whole statement in the text."""
    closed: bool
    """Whether its end can be seen: more text would not make it another answer."""


def final_answer(text: str, nouns: tuple[str, ...] = ANSWER, fits: Callable[[str], object] = bool) -> str | None:
    """The last answer that the text marks; `NOTHING` where it says that it has none, None where it marks none.

    `nouns` are the words for an answer: `verdict` makes `The verdict is …` a mark too. Marks whose answer does not
    fit are left out.
    """
    text = straight(text)
    mark = _last_mark(text, nouns, fits)
    if mark is None:
        return None
    corrected = correction(text, mark.end)
    if corrected is None:
        return mark.answer
    return _restated(corrected.tail) or (NOTHING if corrected.withdrawn else mark.answer)


def closed_mark(text: str, nouns: tuple[str, ...] = ANSWER) -> str | None:
    """The sentence of the last marked answer, of a text that was cut; None without one that was over by then.

    None too where the text had begun to correct itself.
    """
    text = straight(text)
    mark = _last_mark(text, nouns, bool)
    if mark is None or not mark.closed or correction(text, mark.end):
        return None
    before = [end for end in sentence_ends(text) if end <= mark.start]
    return text[max(before, default=0) : mark.end].strip()


def _last_mark(text: str, nouns: tuple[str, ...], fits: Callable[[str], object]) -> Mark | None:
    """The last marked answer that fits and is neither denied, asked nor another's."""
    boxed = [mark for mark in (*_boxes(text), *_tags(text)) if not _denied_before(text, mark.start)]
    said = [mark for mark in _said(text, nouns) if not any(mark.start <= one.start < mark.end for one in boxed)]
    fitting = [mark for mark in (*boxed, *said) if mark.answer == NOTHING or fits(mark.answer)]
    return max(fitting, key=lambda mark: (mark.end, mark.start), default=None)


def _boxes(text: str) -> Iterator[Mark]:
    """What stands in `\\boxed{…}`, whose braces may hold braces."""
    closing, opened = dict[int, int](), list[int]()
    for brace in re.finditer(r"[{}]", text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif opened:
            closing[opened.pop()] = brace.start()
    for found in re.finditer(r"\\f?box(?:ed)?\s?\{", text):
        end = closing.get(found.end() - 1, found.end())
        inner = text[found.end() : end].strip()
        whole = re.fullmatch(r"\\(?:text|mathrm|textbf|mathbf)\s?\{([^{}]*)\}", inner)
        if answer := whole[1].strip() if whole else inner:
            yield Mark(answer, found.start(), end + 1, True)


def _tags(text: str) -> Iterator[Mark]:
    """What stands in `<answer>…</answer>`, or under a heading `## Answer`."""
    for found in re.finditer(r"<((?:final_)?answer)>\s*([^<]*[^<\s])\s*</\1>", text, re.IGNORECASE):
        yield Mark(found[2], found.start(), found.end(), True)
    for found in _HEADING.finditer(text):
        if answer := trimmed(found[1]):
            yield Mark(answer, found.start(), found.end(), found[0].endswith("\n"))


_HEADING = re.compile(
    r"^[#*_ \t]*(?:(?:the|final|correct) )*answer[*_ \t]*\n+[ \t]*(\S[^\n]*)\n?", re.IGNORECASE | re.MULTILINE
)
_VERB = r"(?:is|are|was|were|(?:would|should|must|will|could|might|can)(?: \w+)? be|becomes|comes out (?:to|as))"
_CLAUSE = r"(?:^|(?<=[.,;:!?\n]))"


@lru_cache
def _patterns(nouns: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """`The answer is …` and `… is the answer`."""
    noun = rf"(?<![\w-])(?:{'|'.join(nouns)})s?\b"
    ahead = (
        rf"{noun}[*_\"]*(?:[ \t]*(?:\([^()\n]*\)|(?:choice|option|key)\b)[*_]*)?"
        r"(?:[ \t]*(?::|=|\u2014|[-\u2013](?=[ \t]))"
        rf"|(?P<between>[^.:!?\n]{{0,60}}?)\b(?P<verb>{_VERB})(?P<not>n't)?\b[*_]*[ \t]*:?)"
    )
    behind = (
        rf"{_CLAUSE}(?P<answer>[^.,;:!?\n]{{1,200}}?) (?:is|was|would be|must be|should be) "
        rf"(?:therefore |thus |indeed |actually )?(?:the|my) (?:\w+ ){{0,2}}{noun}"
        rf"(?!\s*(?:that|you|i|to (?:my|your)|{_VERB})\b)"
    )
    return re.compile(ahead, re.IGNORECASE), re.compile(behind, re.IGNORECASE)


def _said(text: str, nouns: tuple[str, ...]) -> Iterator[Mark]:
    ahead, behind = _patterns(nouns)
    ends = sentence_ends(text)
    marks = [_ahead(text, found, ends) for found in ahead.finditer(text)]
    marks += [_behind(text, found, ends) for found in behind.finditer(text)]
    return (mark for mark in marks if mark is not None)


_NOT = re.compile(r"\b(?:not|never)\b|n't\b", re.IGNORECASE)
_PARTIAL = re.compile(
    r"\b(?:part|step|stage|first|second|sub-?\w+)\b"
    r"|^\s+(?:to|for|of)\s+(?:the\s+)?(?:third|next|previous|question\s+(?:\d|one|two|three|[a-d])\b)",
    re.IGNORECASE,
)
"""`The answer to part 1 is …`: not the one that is asked for."""
_LONGEST = 500
"""Characters of a statement that can hold its answer."""


def _ahead(text: str, found: re.Match[str], ends: list[int]) -> Mark | None:
    between = found["between"] or ""
    if _is_verb(text, found.start()) or _denied_before(text, found.start()) or _NOT.search(between):
        return None
    start = re.compile(r"[\s*_]*").match(text, found.end()).end()  # type: ignore[union-attr]
    after = bisect_right(ends, start)
    end = ends[after] if after < len(ends) else len(text)
    asked = asks(text[max(start, end - 20) : end]) and end - start > 2
    yours = found["verb"] and re.search(r"\byour (?:\w+ )?$", text[max(0, found.start() - 20) : found.start()], re.I)
    if yours or asked or _PARTIAL.search(between):
        return None
    statement = text[start : min(end, start + _LONGEST)]
    answer = _answer_of(statement, bool(found["not"]))
    if _NONE.match(answer):
        return Mark(NOTHING, found.start(), end, after < len(ends))
    quoted = _quoted(statement)
    if quoted is not None and after == len(ends):
        end = start + statement.index(quoted) + len(quoted) + 1
    closed = (after < len(ends) and is_over(text, end)) or quoted is not None
    return Mark(answer, found.start(), end, closed) if _says_something(answer) else None


def _answer_of(statement: str, denied: bool) -> str:
    """What a statement says that the answer is; of one that it denies, what it puts in its place."""
    if _NONE.match(statement):
        return trimmed(statement)
    denial = _DENIAL.match(statement)
    if denial:
        return _instead(statement[denial.end() :])
    return _instead(statement) if denied else trimmed(statement)


def _behind(text: str, found: re.Match[str], ends: list[int]) -> Mark | None:
    after = bisect_left(ends, found.end())
    end = ends[after] if after < len(ends) else len(text)
    answer = re.sub(r"^\W*(?:so|thus|therefore|hence|and|then|yes|well)\b", "", found["answer"], flags=re.IGNORECASE)
    rest, answer = text[found.end() : end], answer.strip(UNDECORATED)
    refers = re.fullmatch(r"\W*(?:it|that|this|which|what|here|there|who)\W*", answer, re.IGNORECASE)
    judged = re.search(r"\b(?:wrong|incorrect)\b", rest, re.IGNORECASE)
    if asks(rest) or refers or judged or _NOT.search(answer) or _DENIED_BEFORE.search(answer):
        return None
    return Mark(answer, found.start("answer"), end, after < len(ends) and is_over(text, end))


def _is_verb(text: str, place: int) -> bool:
    """Whether `answer` is what somebody does: to answer, I answer."""
    doer = r"(?:\b(?:to|will|can|cannot|could|would|I|you|we|they|must|shall|please)|n't) $"
    return bool(re.search(doer, text[max(0, place - 10) : place], re.IGNORECASE))


_DENIED_BEFORE = re.compile(
    r"(?:n't|\bnot|\bnever)\s+(?:\w+\s+){0,2}"
    r"(?:think|believe|say|sure|agree|certain|convinced|true|correct|right|case|mean|clear|know)\b"
    r"|(?<!no )\bdoubt\b|\bwhether\b|\bif\b"
    r"|\b(?:you|they|some|many|people|others|the user|the person|one might)\b.*"
    r"\b(?:think|thought|thinks|believe[sd]?|say|says|said|suggest\w*|guess\w*|claim\w*|mention\w*|assum\w+|remember\w*"
    r"|stat(?:es|ed))\b",
    re.IGNORECASE | re.DOTALL,
)


def _denied_before(text: str, place: int) -> bool:
    """Whether what leads up to a mark in its clause denies it, or says that others think so."""
    clause = re.split(r"[.!?;\n]\s|\n|,|:|\bbut\b", text[max(0, place - 300) : place])[-1]
    return bool(_DENIED_BEFORE.search(clause)) and not re.search(r"\bas you\b", clause, re.IGNORECASE)


def _instead(statement: str) -> str:
    """What `not X but Y` and `not X, it is Y` say: Y; empty where nothing is put in the place of X."""
    found = re.search(
        r"(?:,?\s*\bbut\b(?: rather)?|[,;:\u2013\u2014]\s*(?:rather|instead|it's|it is|that is|this is))[,:]?\s*"
        r"(?:it's |it is |rather )?(?!i\b)(.+)",
        statement,
        re.IGNORECASE | re.DOTALL,
    )
    return trimmed(found[1]) if found else ""


UNDECORATED = " \t*_`\"'\u00ab\u00bb"
_PAIRS = {"```": "```", "**": "**", "__": "__", '"': '"', "'": "'", "`": "`", "\u00ab": "\u00bb", "*": "*"}
_LEAD = re.compile(
    r"\W*(?:(?:therefore|thus|then|that|indeed|actually|in fact|probably|likely|most likely|definitely|clearly|simply"
    r"|still|now|hence|of course|as follows|to be)\b[,:]?\s+)+",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\W*(?:(?:most|very|in fact|of course|indeed|now|still|just|\w+ly|I (?:think|believe|am sure))\b[,:]?\s+){0,3}"
    r"(?:not(?! (?:only|just)\b)|(?!(?-i:Never [A-Z]))never|neither|no longer|hardly|scarcely|anything but|far from"
    r"|by no means|in no way|nowhere near)\b",
    re.IGNORECASE,
)
"""`The answer is most likely not …`"""
_ASIDE = re.compile(
    r",? (?:because|since|rather than|instead of|as opposed to)\b"
    r"|, (?:not|as|which|who|where|but|so|and (?:it|not)|though|although|however|while|whereas|I|if|with)\b"
    r"| but (?:I|not|it|that)\b| [\u2013\u2014-] | \(|;",
    re.IGNORECASE,
)


def trimmed(statement: str) -> str:
    """The answer that a statement begins with: what it quotes, or all of it up to a reason or a contrast."""
    lead = _LEAD.match(statement)
    statement = statement[lead.end() :] if lead else statement
    if (quoted := _quoted(statement)) is not None:
        return quoted
    bare = _ASIDE.split(statement.strip(), maxsplit=1)[0].strip(UNDECORATED + "\n")
    # The point of `D.C.` and `U.S.` is part of them.
    ended = re.sub(r"(?<!\b\w\.\w)[.!\u3002]+$", "", bare)
    return ended.strip(UNDECORATED + "\n,;")


def _quoted(statement: str) -> str | None:
    """What the pair of quotes, code or bold marks holds that a statement begins with."""
    for opening, closing in _PAIRS.items():
        if statement.startswith(opening):
            end = re.search(re.escape(closing) + r"(?!\w)", statement[len(opening) :])
            inner = statement[len(opening) : len(opening) + end.start()] if end else ""
            return re.sub(r"[.,!]+$", "", inner).strip(UNDECORATED) or None
    return None


_NONE = re.compile(
    r"\W*(?:unknown|unclear|undetermined|uncertain|n/?a|none of|impossible to|ambiguous|not (?:known|given|clear|enough"
    r"|available|determin\w+|possible|specified|provided|certain))\b",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"(?:wrong|incorrect|correct|right|given|below|above|as follows|found|obvious|simple|clear|here)"
    r"|[\[<{(].*\b(?:answer|insert|your|here)\b.*[\]>})]",
    re.IGNORECASE,
)
"""A judgement of an answer (`The answer is wrong`), or a blank to fill in."""


def _says_something(answer: str) -> bool:
    return not _NO_ANSWER.fullmatch(answer) and bool(re.search(r"\w|[^\s._?\u2026*]", answer))


_IT_IS = re.compile(
    r"\b(?:it|that|this)(?:'s| is| was| should be| must be| would be)\s+(?:actually |really |in fact )?"
    r"(?!wrong|incorrect|not\b|a mistake)([^\n]+)",
    re.IGNORECASE,
)


def _restated(tail: str) -> str:
    """What a correction without a mark says: `no, it is Lyon`, `correction: 72`; empty where it says nothing."""
    found = _IT_IS.search(tail)
    rest = found[1] if found else re.sub(r"^no\b[\s,.:;!]*", "", tail, flags=re.IGNORECASE)
    said = trimmed(rest[: next(iter(sentence_ends(rest)), len(rest))])
    return said if found or len(said.split()) <= 3 else NOTHING
