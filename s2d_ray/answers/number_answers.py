"""Which of the numbers in a text answers the question.

    She sold 48 in April and 24 in May. In total she sold 72 clips in 2 months.   →   72

Where a statement offers several numbers (`5 or 6`, `2 hours and 30 minutes`) none is read.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

from s2d_ray.answers.final import final_answer
from s2d_ray.answers.lengths import readable
from s2d_ray.answers.numbers import Number, numbers, plain, value_of, with_unit
from s2d_ray.answers.sentences import asks, sentences, without_others

_IN_WORDS = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|hundred|thousand|million"
    r"|dozen|half|none)"
)
_NUMERAL = re.compile(rf"\d|[\u00bc-\u00be\u2150-\u215e]|\b{_IN_WORDS}\b", re.IGNORECASE)
"""An answer in words is one, but cannot be read."""
_TWICE = re.compile(rf"\b{_IN_WORDS}(?:[ -]{_IN_WORDS}){{0,5}}(?: \w+)? \(([$€£¥₹]?\d[\d,.]*)\)", re.IGNORECASE)
"""`twelve (12)`."""


def answering_number(text: str) -> Number | None:
    """The number that a text gives as its answer; None where it gives none.

    The first of these that there is: the one in the final answer that the text marks; the last one in bold; that of
    the last sentence that concludes; the one that the text gives first, before all words; that of the last sentence
    with a number.
    """
    text = _TWICE.sub(r"\1", readable(text))
    marked = final_answer(text, fits=_NUMERAL.search)
    if marked is not None:
        return _of_statement(marked) or _of_term(marked)
    text = _without_notes(_without_denied(text))
    for bold in reversed(re.findall(r"\*\*(?!step\b|\d+[.)])([^*\n]+?)\*\*(?!\s*:)", text, re.IGNORECASE)):
        if not bold.rstrip().endswith(":") and (found := _of_statement(bold)):
            return found
    said = [re.sub(r"^\W*(?:step\s*)?\d{1,2}[.):]\s+(?=\S)", "", one, flags=re.IGNORECASE) for one in sentences(text)]
    said = [one for one in said if not _CHECKS.search(one)] or said
    concluding = [place for place, one in enumerate(said) if _CONCLUDES.search(one)]
    # A sum after the conclusion goes on from it; a remark does not.
    sums = [one for one in said[concluding[0] :] if "=" in one or _CONCLUDES.search(one)] if concluding else []
    given = None if any(map(_standing, sums)) else _given_first(said)
    return given or _of_first(sums[::-1] + said[::-1])


_NOTE = re.compile(
    r"^[^\w\n]*(?:explanation\b.*\Z|(?:note|n\.?b|p\.?s|remark|disclaimer|assumptions?)\b.*?(?=\n\s*\n|\Z))",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def _without_notes(text: str) -> str:
    """The text without what it adds to its answer; a text that is nothing else stays."""
    kept = _NOTE.sub("", text)
    return kept if re.search(r"\d", kept) else text


_DENIED = re.compile(
    r"(?:\bnot|n't|\bno longer|\banything but)\s+(?:\w+ly )?(?:[$€£]\s?)?[-\u2212]?\d[\d.,]*(?<=\d)", re.IGNORECASE
)


def _without_denied(text: str) -> str:
    """The text without its questions, and numbers that it says are not so or others' (`not 70`)."""
    paragraphs = text.split("\n\n")
    kept = ("\n".join(one for one in sentences(part) if not asks(one)) for part in paragraphs)
    text = without_others("\n\n".join(kept))
    return _DENIED.sub(" ", text)


_CONCLUDES = re.compile(r"^\W*(?:therefore|thus|hence|in conclusion|finally)\b", re.IGNORECASE)
_CHECKS = re.compile(
    r"\bto (?:double-?\s?)?check\b|\bto verify\b|\b(?:check|verification|verifying|checking):"
    r"|\blet me know\b|\bfeel free\b|^\W*this (?:assumes|is because|means that)\b"
    r"|^\W*(?:this|that|it|which) is (?:\w+ )?\$?\d\S* (?:\w+ )?(?:more|less|fewer|\w{2,}er) than\b",
    re.IGNORECASE,
)
_OPENER = 3
"""Words that a text may begin with before it gives its number: `Sure, here it is:`."""
_HEAD_ENDS = re.compile(r"\s*[;\u2014]|\s\(|:(?=\s)|,? (?:because|since|as)\b|\s-\s(?!\$?\d)", re.IGNORECASE)


def _given_first(said: list[str]) -> Number | None:
    """The number that a text begins with, alone or with a unit; None where others stand alone too, as in a list."""
    first = next((place for place, one in enumerate(said) if re.search(r"\d", one)), None)
    alone = [number for one in said if (number := _alone(one))]
    if first is None or len({number.value for number in alone}) != 1 or not _alone(said[first]):
        return None
    return alone[0] if all(len(one.split()) <= _OPENER for one in said[:first]) else None


def _alone(statement: str) -> Number | None:
    """The number that a statement consists of, but for a reason or explanation; `1.` counts an item."""
    if re.fullmatch(r"\W*1[.)]", statement):
        return None
    one = with_unit(_HEAD_ENDS.split(plain(statement), maxsplit=1)[0])
    return one[0] if one else None


def _of_first(statements: Iterable[str]) -> Number | None:
    """What the first statement that has numbers is about."""
    return next((_of_statement(one) for one in statements if _standing(one)), None)


# What the result stands behind; where a sentence has none of these, one of the verbs after them.
_RESULT = re.compile(
    r"=|≈|\b(?:it|that|this|which)(?:'s| is| was| equals| makes| leaves)\b|\btotal (?:of|is|was)\b"
    r"|\brounds (?:\w+ )?to\b|(?<=\w[,;] )(?:so|making|leaving|earning|totall?ing|resulting in)\b|所以|因此",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|equals?|makes?|made|totals?|gives?|gave|leaves?|left with|costs?|comes? to|amounts? to"
    r"|adds? up to|gets?|receives?|received|earns?|earned|saves?|saved|spends?|spent|pays?|paid|needs?|needed|sells?"
    r"|sold|buys?|bought|has|have|had|takes?|took|eats?|ate|weighs?)\b",
    re.IGNORECASE,
)
_ADDED = re.compile(
    r"\([^()]*\)|(?<=\w)[ ,]+(?:because|since|including|excluding|counting|assuming|compared (?:to|with)|rather than"
    r"|instead of|of which|(?:up|down) from)\b(?:(?![,;] (?:so|which|therefore|thus|making|for a total)\b).)*",
    re.IGNORECASE | re.DOTALL,
)
"""A reason, a part or a comparison, that the number which matters does not stand in."""
_BESIDE = re.compile(
    r"\b(?:in|over|within|for|after|per|each|every|during|by|of|from|at|on|until|with|than)(?: \w+)?$", re.I
)
_OPERATOR = r"\s?[+*÷/]\s?|\s[x-]\s|\s(?:plus|minus|times|divided by|multiplied by)\s"


def _of_statement(statement: str) -> Number | None:
    """The number that a statement is about.

    One that stands in an aside (`in 2 months`) is so only where there is no other. Of several it is the first after
    the last `=`, `it is` or verb of having; without such a word the one that it begins with, or the last. None where
    it has others beside it.
    """
    text = plain(statement)
    found = _standing(text)
    main = [number for number in found if number.money or not _aside(text, number)] or found
    if not main:
        return None
    ends = ([match.end() for match in cue.finditer(text) if match.end() <= main[-1].start] for cue in (_RESULT, _VERB))
    first = main[0].start
    start = next((places[-1] for places in ends if places), first if first == 0 else main[-1].start)
    chosen = next(number for number in main if number.start >= start)
    beside = any(chosen in pair and _are_equals(text, *pair) for pair in pairwise(main))
    return None if beside or _MULTIPLE.match(text, chosen.end) else chosen


def _standing(statement: str) -> list[Number]:
    """The numbers of a statement that are no operands; those in what it adds only where there are no others."""
    text = plain(statement)
    found = [number for number in numbers(text) if not _operand(text, number)]
    added = [match.span() for match in _ADDED.finditer(text)]
    return [one for one in found if not any(start <= one.start < end for start, end in added)] or found


_BETWEEN = re.compile(
    r"\s*-?\s*|\s+to\s+|(?:\s+[\w'-]+){0,3},?\s+(?:and|or|&)\s+(?:\w+\s+)?|(?:\s+[\w'-]+){0,2}\s*[,/]\s*(?:\w+\s+)?"
    r"|\s?(?:h|hrs?|hours?|days?|weeks?|months?|years?|feet|foot|ft|yards?|pounds?|lbs?|dollars?)\s+|\w{0,8},\w{0,8}",
    re.IGNORECASE,
)
_MULTIPLE = re.compile(r"\s?(?:dozens?|k|mn|bn)\b", re.IGNORECASE)


def _are_equals(text: str, one: Number, other: Number) -> bool:
    """Whether two numbers stand side by side, so that neither is the answer alone: `5 or 6`, `5 feet, 3 inches`."""
    compared = re.match(r"\s?%?\s(?:\w+ )?(?:more|less|fewer)\b", text[other.end : other.end + 30])
    resulting = _RESULT.search(text, one.end, other.start)
    return not compared and not resulting and bool(_BETWEEN.fullmatch(text, one.end, other.start))


def _before(text: str, number: Number) -> str:
    """The words before a number, as far as they matter to it."""
    return text[max(0, number.start - 40) : number.start]


def _operand(text: str, number: Number) -> bool:
    """Whether a number is part of a term whose value is another: `48 + 24`, `√16`, `3x`."""
    after, before = text[number.end : number.end + 40], _before(text, number)
    return bool(
        re.match(rf"\W?(?:{_OPERATOR})[$€£(]?\d|\s?(?:\\?sqrt|√|\\?pi\b|π|[xyzn](?![\w-]| as\b))", after)
        or re.search(rf"[\d)%]\s?(?:{_OPERATOR})[$€£(]?$|(?:√|\\?(?:sqrt|log|ln|sin|cos|tan))\s?[{{(]?$", before)
    )


def _aside(text: str, number: Number) -> bool:
    before = _before(text, number).rstrip(" $€£~")
    if re.match(r" times (?:as|more|the)\b", text[number.end : number.end + 20]):
        return True
    return bool(_BESIDE.search(before)) and not re.search(r"\b(?:total|sum|average|answer|amount)\s+of$", before, re.I)


def _of_term(term: str) -> Number | None:
    value = value_of(term)
    return None if value is None else Number(value, str(value), 0, len(term), False)
