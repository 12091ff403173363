"""What a text asserts: its sentences, without what it denies, repeats, asks, or says that others think.

What these functions return is `straight`; a text that is not too long to be read whole keeps its length.
"""

import re
from typing import NamedTuple

from s2d_ray.answers.lengths import readable

_STRAIGHT = str.maketrans(
    {
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    }
)
_DECORATION = "\"')*_` "
_END = re.compile(r"(?<![.!?])[.!?]+[\"')*_`]*(?=\s|$)|[\u3002\uff01\uff1f]|\n")
_TITLE = re.compile(r"\b(?:mr|mrs|ms|dr|st|mt|ft|prof|gen|lt|sgt|jr|sr|vs|approx|e\.g|i\.e)\.$", re.IGNORECASE)
_OPENER = re.compile(
    r"\s+(?:it|its|the|this|that|these|he|she|they|we|you|i|in|so|but|and|there|however|therefore)\b", re.IGNORECASE
)


_TAG = re.compile(
    r"(?<=\w)[\"'*_`]{0,3},? ?\b(?:right|correct|(?:is|are|was|were|does|do|did|has|have)n't (?:it|they|he|she|that)"
    r"|(?:is|was|does|did) (?:it|he|she) not)\s?\?(?=\s|$)",
    re.IGNORECASE,
)
"""`…, right?` asserts what stands before it."""
_RIGHT = r"(?:(?:absolutely|quite|indeed|completely|totally|entirely|perfectly) )?(?:right|correct)\b"
_AGREES = re.compile(
    rf"\byou(?:'re| are) {_RIGHT} (?:to (?:think|believe|say|guess|assume|suggest)"
    r"|in (?:thinking|believing|saying|guessing|assuming))(?: that)?\b"
    r"|\b(?:you (?:think|believe|said|say|guessed)|your (?:belief|guess|opinion|answer|assumption|suggestion))"
    r"(?: that| of| is)?\b,? ?(?P<said>(?:(?!\bnot\b|n't\b)[^.;:!?\n]){1,100}?),?"
    rf" (?:and (?:you(?:'re| are)|that(?:'s| is))|which is|is|was) {_RIGHT}",
    re.IGNORECASE,
)
"""`You're right to think it's Peru`: another's opinion, and the text's own."""


def straight(text: str) -> str:
    """The text as it is read: its head and tail, quotes straight, what it agrees to or asks back as its own words."""
    text = readable(text).translate(_STRAIGHT)
    text = _TAG.sub(lambda tag: f"{'.':<{len(tag.group())}}", text) if "?" in text else text
    return _AGREES.sub(lambda found: (found["said"] or "").rjust(len(found.group())), text)


def sentences(text: str) -> list[str]:
    """The sentences of a text with the marks that end them; a line ends one too."""
    text, found, start = straight(text), [], 0
    for end in sentence_ends(text):
        found.append(text[start:end])
        start = end
    return [one.strip() for one in (*found, text[start:]) if one.strip()]


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end, the end of an unfinished last one left out. `D.C.` and `St.` end none."""
    text = straight(text)
    return [match.end() for match in _END.finditer(text) if not _abbreviated(text, match)]


def is_over(text: str, end: int) -> bool:
    """Whether the sentence that ends there is over whatever may follow the text: `3.` may go on as `3.5`."""
    return end < len(text) or text.endswith(("\n", "\u3002", "\uff01", "\uff1f"))


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


_START = r"(?:^|(?<=[.,;:!?\n\u2014])|(?<=\bbut )|(?<=\band ))"
_REST = r"(?:(?!\bbut\b|\binstead\b|\brather,| [-\u2013] )[^.,;:!?\n\u2014]|\.(?=\w))*"
"""To the end of the clause; a point within a word ends none."""
_MORE = r"(?=\s+\S)"
_LIST = r"(?-i:(?:, [A-Z][\w-]*(?: [A-Z][\w-]*)?){1,5},? (?:or|nor) [A-Z][\w-]*)?"
"""`Not in Peru, Chile or Bolivia`"""
_OTHERS = (
    r"\b(?:you|they|some|many|most|people|others|the user|the person|the human|one (?:might|could|may))\b"
    r"(?:(?!\bbut\b)[^.,;:!?\n]){0,200}?"
    r"\b(?:think|thought|thinks|believe[sd]?|say|says|said|suggest(?:s|ed|ing)?|guess(?:ed)?|claim(?:s|ed)?"
    r"|mention(?:s|ed)?|assum(?:e|es|ed|ing)|remember(?:s|ed)?|stat(?:es|ed)|propos(?:e|es|ed)|argue[sd]?"
    r"|thinking of|referring to)\b"
)
_NOT_ONE = (
    rf"{_START}(?:(?!\bbut\b|\band\b)[^.,;:!?\n]){{0,200}}\b(?:is|was|are|would be)(?:"
    r"(?:n't| not) (?:really |actually )?(?:the (?:\w+ )?(?:answer|capital|country|state|one|case)|right|correct|true)"
    rf"| (?:an? )?(?:\w+ly )?(?:wrong|incorrect|false|mistaken))\b{_REST}"
    rf"|{_START}[^.,;:!?\n]{{0,200}}\b(?:has|have) no\b{_REST}"
)
"""`Sydney is not the capital`, `Sydney has no parliament`: the subject is denied."""
_THAT_ONE = rf"{_START}[^.,;:!?\n]{{0,200}},[^.,;:!?\n]{{0,200}}, (?:is|was) (?:\w+ly )?(?:wrong|incorrect|mistaken)\b"
"""`Your answer, Chile, is wrong.`"""
_ATTRIBUTED = re.compile(_OTHERS + _REST, re.IGNORECASE)
_TITLE_OF_WORK = (
    r"(?-i:\bNever (?=[A-Z])|(?<=\b[A-Z][a-z] )Not (?=[A-Z])|(?<=\b[A-Z][a-z]{2} )Not (?=[A-Z])"
    r"|(?<=\b(?:Do|Ca|Wo))n't (?=[A-Z])|(?<=\bI'm )Not (?=[A-Z]))"
)
"""`Do Not Go Gentle` and `Never Say Never Again` deny nothing."""
_NO = (
    r"(?:(?<=\bis )|(?<=\bare )|(?<=\bwas ))no (?!(?:doubt|question|other|change|because|since|as|if|it|and|the|that"
    r"|this|he|she|they|we|i|you|after|both|is)\b)[a-z]\w*"
)
"""`It is no horse`; `It is no, because …` says no."""
_NEGATED = re.compile(
    rf"(?!{_TITLE_OF_WORK})(?:n't\b|\bnot\b(?! only| just| surprisingly)|\bnever\b|\bcannot\b|\bneither\b|\bnor\b"
    rf"|\bno longer\b|\banything but\b|\bhardly\b(?! surprising)|\bby no means\b)"
    rf"{_MORE}{_REST}{_LIST}{_REST}|{_NO}{_REST}",
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


def asserted(text: str, gap: str = " ") -> str:
    """The text without its questions, what it denies or concedes, and what it says that others think.

    `gap` takes the place of what is left out of a sentence.
    """
    text = "\n".join(one for one in sentences(text) if not asks(one))
    for pattern in _DENIED:
        text = pattern.sub(gap, text)
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


_JUDGED = r"(?:(?:hmm+|no|oh|ah|actually|sorry),? (?:but )?)?that(?:'s| is) (?:wrong|incorrect|not (?:right|correct))\b"
_AT_START = r"(?:^|(?<=[.!?\n\u2026]))[ \n]{0,20}"
_AT_CLAUSE = rf"(?:{_AT_START}|(?<=[,;:(\u2013\u2014-])|(?<=[,;:\u2013\u2014-] )|(?<=\b(?:no|oh) )|(?<=\b(?:but|hmm) ))"
_TAKEN_BACK = re.compile(
    rf"{_AT_CLAUSE}(?:wait\b(?=\s?[,.:;!?\u2013-\u2026-]|\s(?:no|that's|that is|I|let me|actually|a \w+)\b)"
    rf"(?:\W{{1,3}}{_JUDGED})?|scratch that\b|correction\b(?=\s?[:,.;!\u2013\u2014-])|let me correct\b|oops\b"
    r"|hold on\b(?=\s?[,.:;!\u2013-\u2026-])"
    r"|on second thoughts?\b|I meant?\b(?! it\b)|make that\b|my mistake\b)"
    r"|(?<!if )(?<!unless )\bI (?:made|was|am) (?:a |an )?(?:mistake\w*|error|wrong)\b(?! to\b| about\b)"
    rf"|{_AT_START}(?:{_JUDGED}|wrong(?=[.!]))",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"\b(?:yes|indeed|(?:that|it|this)(?:'s| is) (?:right|correct|fine)|still|checks? out|confirmed"
    r"|(?:was|is) (?:right|correct))\b",
    re.IGNORECASE,
)
_ACTUALLY = re.compile(
    rf"(?:{_AT_START}|(?<=, ))(?:[Aa]ctually\b|No\b(?=[,.:;!]))|{_AT_CLAUSE}[Nn]o, (?=(?:it|that)\b)"
)
_BEFORE_IT_GOES_ON = re.compile(r"(?:[\s,:;!?\u2013\u2014\u2026)]|\.(?!\d)|-(?=\s))*")


class Correction(NamedTuple):
    """That a text goes back on what it said."""

    tail: str
    """What it says then."""
    withdrawn: bool
    """Whether what it had said no longer counts, even where it says nothing new."""


def correction(text: str, after: int = 0) -> Correction | None:
    """The last correction in a text from a place on; None where it has none, or confirms then what it had said.

    Where nothing was said before it, nothing is corrected.
    """
    text = straight(text)
    for pattern in (_TAKEN_BACK, _ACTUALLY):
        found = [one for one in pattern.finditer(text, after) if re.search(r"\w", text[: one.start()])]
        if found:
            tail = text[_BEFORE_IT_GOES_ON.match(text, found[-1].end()).end() :]  # type: ignore[union-attr]
            withdrawn = pattern is _TAKEN_BACK
            return None if withdrawn and _CONFIRMED.search(tail) else Correction(tail, withdrawn)
    return None
