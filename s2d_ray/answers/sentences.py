"""What a text asserts: its sentences, without what it denies, repeats, asks, or says that others think.

Quotes are straight in all that these functions return; a text keeps its length.
"""

import re
from typing import NamedTuple

_STRAIGHT = str.maketrans(
    {
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    }
)
_DECORATION = "\"')*_` "
_END = re.compile(r"[.!?]+[\"')*_`]*(?=\s|$)|[\u3002\uff01\uff1f]|\n")
_TITLE = re.compile(r"\b(?:mr|mrs|ms|dr|st|mt|ft|prof|gen|lt|sgt|jr|sr|vs|approx|e\.g|i\.e)\.$", re.IGNORECASE)
_OPENER = re.compile(
    r"\s+(?:it|its|the|this|that|these|he|she|they|we|you|i|in|so|but|and|there|however|therefore)\b", re.IGNORECASE
)


def straight(text: str) -> str:
    """The text with straight quotes."""
    return text.translate(_STRAIGHT)


def sentences(text: str) -> list[str]:
    """The sentences of a text with the marks that end them; a line ends one too."""
    text, found, start = straight(text), [], 0
    for end in sentence_ends(text):
        found.append(text[start:end])
        start = end
    return [one.strip() for one in (*found, text[start:]) if one.strip()]


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end, the end of an unfinished last one left out. `D.C.` and `St.` end none."""
    return [match.end() for match in _END.finditer(straight(text)) if not _abbreviated(text, match)]


def _abbreviated(text: str, end: re.Match[str]) -> bool:
    if not re.match(r"\.(?!\.)", end.group()) or end.end() == len(text):
        return False
    before = text[max(0, end.start() - 6) : end.start() + 1]
    if re.search(r"(?:\b[A-Za-z]\.){2}$|\b[B-HJ-Z]\.$", before):
        # `in the U.S. It is` ends, `J. K. Rowling` does not.
        return not _OPENER.match(text, end.end()) and text[end.end()] != "\n"
    return bool(_TITLE.search(before))


def asks(sentence: str) -> bool:
    """Whether a sentence is a question."""
    return sentence.rstrip(_DECORATION).endswith(("?", "\uff1f"))


def without_echo(text: str, asked: str) -> str:
    """The text without what it repeats of the prompt: all of it, its questions, and what the person says of themself.

    A plain statement that the prompt makes too (`The answer is Texas.`) stays: whoever repeats it asserts it.
    """
    if not asked.strip():
        return straight(text)
    own = [one for one in sentences(asked) if asks(one) or re.search(r"\b(?:I|I'm|my)\b", one)]
    text = straight(text)
    for repeated in (straight(asked), *own):
        spaced = r"\s+".join(map(re.escape, repeated.split()))
        text = re.sub(rf"[\"'*]{{0,3}}{spaced}[\"'*]{{0,3}}", " ", text, flags=re.IGNORECASE)
    return text


_START = r"(?:^|(?<=[.,;:!?\n])|(?<=\bbut )|(?<=\band ))"
_REST = r"(?:(?!\bbut\b|\binstead\b|\brather,)[^.,;:!?\n]|\.(?=\w))*"
"""To the end of the clause; a point within a word ends none."""
_MORE = r"(?=\s+\S)"
_OTHERS = (
    r"\b(?:you|they|some|many|most|people|others|the user|the person|the human|one (?:might|could|may))\b"
    r"(?:(?!\bbut\b)[^.,;:!?\n])*"
    r"\b(?:think|thought|thinks|believe[sd]?|say|says|said|suggest(?:s|ed|ing)?|guess(?:ed)?|claim(?:s|ed)?"
    r"|mention(?:s|ed)?|assum(?:e|es|ed|ing)|remember(?:s|ed)?|stat(?:es|ed)|propos(?:e|es|ed)|argue[sd]?"
    r"|thinking of|referring to)\b"
)
_NOT_ONE = (
    rf"{_START}(?:(?!\bbut\b|\band\b)[^.,;:!?\n])*\b(?:is|was|are|would be)(?:"
    r"(?:n't| not) (?:really |actually )?(?:the (?:\w+ )?(?:answer|capital|country|state|one|case)|right|correct|true)"
    rf"| (?:\w+ly )?(?:wrong|incorrect|false|mistaken))\b{_REST}"
)
"""`Sydney is not the capital`: the subject is denied."""
_THAT_ONE = rf"{_START}[^.,;:!?\n]*,[^.,;:!?\n]*, (?:is|was) (?:\w+ly )?(?:wrong|incorrect|mistaken)\b"
"""`Your answer, Chile, is wrong.`"""
_ATTRIBUTED = re.compile(_OTHERS + _REST, re.IGNORECASE)
_NEGATED = re.compile(
    rf"(?:n't\b|\bnot\b(?! only| just| surprisingly)|\bnever\b|\bcannot\b|\bneither\b|\bnor\b){_MORE}{_REST}",
    re.IGNORECASE,
)
_DENIED = (
    re.compile(f"{_THAT_ONE}|{_NOT_ONE}", re.IGNORECASE),
    _ATTRIBUTED,
    re.compile(
        r"\b(?:while|although|(?:even )?though|whereas|contrary to|despite|unlike|rather than|instead of|as opposed to"
        rf"|other than|except|regardless of|(?:i|we) (?:doubt|disagree|wonder)){_REST}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\byour (?:\w+ )?(?:answer|guess|belief|opinion|suggestion|assumption)(?: that| of)?{_REST}", re.IGNORECASE
    ),
    re.compile(rf"\b(?:whether|if|unless)\b{_MORE}{_REST}", re.IGNORECASE),
    _NEGATED,
)


def without_others(text: str) -> str:
    """The text without what it says that others think."""
    return _ATTRIBUTED.sub(" ", straight(text))


def without_denied(text: str) -> str:
    """The text without its questions and what it says is not so."""
    return _NEGATED.sub(" ", "\n".join(one for one in sentences(text) if not asks(one)))


def asserted(text: str) -> str:
    """The text without its questions, what it denies or concedes, and what it says that others think."""
    text = "\n".join(one for one in sentences(text) if not asks(one))
    for pattern in _DENIED:
        text = pattern.sub(" ", text)
    return text


_REFUSAL = re.compile(
    r"\b(?:I|we)(?:'m| am| are)? (?:sorry|afraid|unable|not able|not sure|unsure|uncertain|don't know|do not know"
    r"|(?:can't|cannot|can not|could not|couldn't)(?: really)? (?:answer|say|tell|determine|provide|give|help|find"
    r"|be sure|verify|assist|know)|have no (?:idea|information|way)|don't have|do not have)\b"
    r"|\bas an? (?:AI|language model)\b|\b(?:is|are) (?:unknown|not known|unclear|impossible to (?:say|tell|know))\b",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether a text says that it gives no answer."""
    return bool(_REFUSAL.search(straight(text)))


_TAKEN_BACK = re.compile(
    r"\bno[,.]?\s*wait\b|\bwait\b(?!\s+(?:for|until|time))|\bscratch that\b|\bcorrection\b|\blet me correct\b"
    r"|\bI (?:made|was|am) (?:a |an )?(?:mistake\w*|error|wrong)\b|\bmy mistake\b|\boops\b|\bhold on\b"
    r"|\bon second thoughts?\b|\bno, (?=(?:it|that)\b)|\bthat(?:'s| is) (?:wrong|incorrect|not (?:right|correct))\b"
    r"|\bI meant?\b|\bmake that\b",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"\b(?:yes|indeed|(?:that|it|this)(?:'s| is) (?:right|correct|fine)|still|checks? out|confirmed"
    r"|(?:was|is) (?:right|correct))\b",
    re.IGNORECASE,
)
_ACTUALLY = re.compile(r"(?:^|(?<=[.!?\n])|(?<=[.!?]\s)|(?<=,\s))\s*(?:[Aa]ctually\b|No\b(?=[,.:;!]))")


class Correction(NamedTuple):
    """That a text goes back on what it said."""

    tail: str
    """What it says then."""
    withdrawn: bool
    """Whether what it had said no longer counts, even where it says nothing new."""


def correction(text: str) -> Correction | None:
    """The last correction in a text; None where there is none, or where it ends by confirming what it had said."""
    text = straight(text)
    if found := list(_TAKEN_BACK.finditer(text)):
        tail = text[found[-1].end() :]
        return None if _CONFIRMED.search(tail) else Correction(tail, withdrawn=True)
    if found := list(_ACTUALLY.finditer(text)):
        return Correction(text[found[-1].end() :], withdrawn=False)
    return None
