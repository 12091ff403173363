"""The verdict of a text on two responses: `A`, `B` or `tie`."""

import re

from s2d_ray.answers.final import NOTHING, closed_mark, final_answer
from s2d_ray.answers.sentences import asks, asserted, correction, sentences, straight

_NOUNS = ("answer", "verdict", "winner", "judgment", "judgement", "decision", "choice", "pick", "final")
# `A` is an article too: it is a response only where no word follows it that could be one's noun.
_ONE = (
    r"(?:(?:the )?(?:response|answer|assistant|option|candidate|reply|model)s?\s+)?"
    r"[*\"'`(\[]{0,6}(?-i:([AB]))[*\"'`)\]]{0,6}"
)
_WHO = _ONE + r"(?!\w|['.]\w)"
_OTHER = r"(?:response )?(?-i:[AB])\b"
_BETTER = (
    r"(?:better|best|stronger|superior|preferable|preferred|more \w+(?:,? and (?:more )?\w+)?|clearer|winner"
    r"|right one|correct one)"
)
_IS = (
    r"\s+(?:is|was|seems|looks|appears|would be|feels)(?: to be)?\s+"
    r"(?:(?!not\b)\w+ly\s+|the\s+|much\s+|far\s+|slightly\s+|a\s+bit\s+|clear\s+|overall\s+)*"
)
_FOR = re.compile(
    "|".join(
        (
            rf"{_WHO}{_IS}{_BETTER}\b",
            rf"{_WHO}\s+(?:\w+ly |overall )?(?:wins|won|prevails|outperforms|beats|surpasses|is preferred)\b",
            rf"{_WHO}\s*(?:>+|over)\s*{_OTHER}",
            r"\b(?:prefer|choose|pick|favou?r|lean towards?|go with|select|vote for|goes to|side with)(?:red|s)?\s+"
            + _WHO,
            rf"{_BETTER}(?:\s+(?:one|response|answer|choice|option))?"
            rf"(?: of the two| overall| here)?\s*(?:is|:|=)\s*{_WHO}",
            rf"\b(?:find|found|rate|consider|think|believe)\s+{_WHO}\s+(?:to be )?"
            r"(?:more \w+|better|superior|higher)\b",
            r"\b(?:I(?:'d| would)?\s+(?:say|think|find|believe)(?: it(?:'s| is)| that)?|so)\s+"
            rf"{_WHO}(?=\W*$|[.,;!]\s|\s+superior)",
        )
    ),
    re.IGNORECASE,
)
_AGAINST = re.compile(
    rf"{_WHO}{_IS}(?:worse|worst|weaker|inferior|less \w+)\b|{_WHO}\s*<+\s*{_OTHER}|{_WHO}\s+loses\b", re.IGNORECASE
)
_NOT_AS_GOOD = re.compile(rf"{_WHO}\s+(?:is|was)(?:n't| not) as \w+ as {_OTHER}", re.IGNORECASE)
_TIE = re.compile(
    "|".join(
        (
            r"\b(?:it(?:'s| is)|call(?:ed)? it|this is|that(?:'s| is)|ends? in|declare|result is)\s+"
            r"(?:\w+ly )?(?:an? )?(?:tie|draw|toss-up)\b",
            r"\b(?:both|the two|they|A and B|the responses|these)(?: (?:responses|answers|ones|options))?(?: A and B)? "
            r"(?:are|were|seem|is) (?:\w+ly )?(?:equal\w*|tied|the same|identical|comparable|(?:just )?as good)\b",
            r"\bequally (?:good|bad|helpful|strong|weak|valid|correct|accurate)\b",
            r"\bneither (?:one |response |answer )?is (?:\w+ly )?(?:better|worse)\b",
            rf"\b(?-i:[AB]) is (?:just |about |equally |every bit )?as \w+ as {_OTHER}",
            r"\bA and B (?:are )?tied?\b",
            r"\bno (?:clear )?(?:winner|difference)\b",
        )
    ),
    re.IGNORECASE,
)
_NO_TIE = re.compile(r"\bnot (?:a )?(?:tie|draw|equal\w*)\b", re.IGNORECASE)
_ALONE = re.compile(
    r"\W*(?:(?:the|my|an?(?=\W+(?:tie|draw))|final|overall|verdict|response|assistant|option|answer|winner|choice)\W+){0,3}"
    r"((?-i:A|B|C)|tie|draw|both|equal)\W*",
    re.IGNORECASE,
)
_BEGUN = re.compile(
    r"\W*(?:(?:verdict|response|assistant|answer|winner)\W+){0,2}((?-i:A|B)|tie)"
    r"(?=\W*\n|[.,:;!)*]|\s*[-\u2013\u2014]\s|\s+(?:because|since)\b)",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"(?<!not )(?<!n't )(?<!than )(?<!instead of )\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_LAST_WORD = re.compile(r"\b(?:overall|in conclusion|therefore|in the end|all in all|in sum)\b", re.IGNORECASE)


def read_verdict(text: str) -> str | None:
    """The last verdict in double brackets; else the final answer; else what the text says of the two.

    None where it says nothing of the kind, or different things with no last word (`overall`, a correction).
    """
    text = straight(text)
    if bracketed := _BRACKETS.findall(text):
        return _named(bracketed[-1])
    final = final_answer(text, _NOUNS)
    if final == NOTHING:
        return None
    if final and (found := _of_phrase(final) or _of_sentences(final)):
        return found
    corrected = correction(text)
    if corrected is not None:
        later = _of_phrase(corrected.tail) or _of_sentences(corrected.tail)
        if later or corrected.withdrawn:
            return later
    return _of_phrase(text) or _of_text(text)


def closed_verdict(text: str) -> str | None:
    """The verdict of a text that was cut: one in double brackets or a final answer that was over by then."""
    text = straight(text)
    if bracketed := list(_BRACKETS.finditer(text)):
        return read_verdict(text[: bracketed[-1].end()])
    closed = closed_mark(text, _NOUNS)
    return None if closed is None else read_verdict(closed)


def _named(verdict: str) -> str:
    return {"A": "A", "B": "B"}.get(verdict.upper(), "tie")


def _of_phrase(phrase: str) -> str | None:
    """The verdict that is all of a phrase: `B`, `**Response A**`, `a tie`, `(A)`."""
    found = _ALONE.fullmatch(phrase)
    return _named(found[1]) if found else None


def _of_text(text: str) -> str | None:
    """What the text says in sentences, unless it begins with another verdict."""
    said, begun = _of_sentences(text), _BEGUN.match(text)
    if begun is None:
        return said
    return _named(begun[1]) if said in (None, _named(begun[1])) else None


def _of_sentences(text: str) -> str | None:
    """The one verdict of all sentences; where one has the last word, of that one and those after it."""
    verdicts: set[str] = set()
    for sentence in sentences(text):
        last = _LAST_WORD.search(sentence)
        found = _of_sentence(sentence)
        if last and len(found) > 1:
            found = _of_sentence(sentence[last.end() :])
        verdicts = found if last and len(found) == 1 else verdicts | found
    return verdicts.pop() if len(verdicts) == 1 else None


def _of_sentence(sentence: str) -> set[str]:
    if asks(sentence):
        return set()
    if alone := _of_phrase(sentence):
        return {alone}
    if _TIE.search(sentence) and not _NO_TIE.search(sentence):
        return {"tie"}
    if lesser := _NOT_AS_GOOD.search(sentence):
        return {_other(lesser)}
    kept = asserted(sentence)
    return {_who(found) for found in _FOR.finditer(kept)} | {_other(found) for found in _AGAINST.finditer(kept)}


def _who(found: re.Match[str]) -> str:
    return next(name for name in found.groups() if name)


def _other(found: re.Match[str]) -> str:
    return {"A": "B", "B": "A"}[_who(found)]
