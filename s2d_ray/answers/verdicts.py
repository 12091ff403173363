"""The verdict of a text on two responses: `A`, `B` or `tie`."""

import re
from typing import NamedTuple

from s2d_ray.answers.final import NOTHING, closed_mark, final_answer
from s2d_ray.answers.sentences import asks, asserted, correction, sentences, straight

_NOUNS = ("answer", "verdict", "winner", "judgment", "judgement", "decision", "choice", "pick", "final")
_TEXT = r"(?:answer|response|reply|explanation|version|reasoning|solution|text|one)"
# `A` is an article too: it is a response only where no word follows it that could be one's noun.
_ONE = (
    r"(?:(?:the )?(?:response|answer|assistant|option|candidate|reply|model)s?\s+)?[*\"'`(\[]{0,6}(?-i:([AB]))"
    rf"[*\"'`)\]]{{0,6}}(?:'s\s+(?:\w+\s+)?{_TEXT}\b)?"
)
_WHO = _ONE + r"(?!\w|['.]\w)"
_OTHER = r"(?:response )?(?-i:[AB])\b"
_BETTER = r"(?:better(?! \w+(?:ed|en)\b)|best|stronger|superior|preferable|preferred|winner|right one|correct one)"
_WORSE = r"(?:worse|worst|weaker|inferior)"
# One of several virtues: it decides only where nothing else does.
_MORE = r"(?:more (?!or\b|than\b)\w+(?:,? and (?:more )?\w+)?|clearer|better \w+(?:ed|en)\b)"
_LESS = r"(?:less \w+(?:,? and (?:less )?\w+)?)"
_HOW = (
    r"(?:(?!hardly|barely|scarcely|supposedly|allegedly)\w+ly\s+|an?\s+|the\s+|much\s+|far\s+|by\s+far\s+|(?:a\s+)?bit\s+"
    r"|clear\s+|overall\s+)*"
)
_IS = rf"\s+(?:is|was|seems|looks|appears|would be|feels)(?: to be)?\s+{_HOW}"
_HAS = rf"\s+(?:\w+ly\s+)?(?:gives|provides|offers|does|has|presents|delivers|makes|contains|is|was)\s+{_HOW}"
_FINDS = r"\b(?:find|found|rate|rated|consider|think|believe|judge)\s+"
_DOES = r"\s+(?:answers|explains|addresses|handles|covers|responds|reads|fits|works|performs|follows|solves|does)\b"


def _praise(virtue: str) -> tuple[str, ...]:
    """Patterns of somebody's having a virtue, or a fault."""
    return (
        rf"{_WHO}{_IS}{virtue}(?!\w)",
        rf"{_WHO}{_HAS}{virtue}\s+(?!than\b)\w",
        rf"{_FINDS}{_WHO}\s+(?:to be )?{_HOW}(?:{virtue})\b",
        rf"\bmakes {_WHO}\s+{_HOW}{virtue}\b",
        rf"\bwith {_WHO}\s+(?:being |coming out )?{_HOW}{virtue}\b",
        rf"{virtue}(?:\s+(?:one|response|answer|choice|option))?(?: of the two| overall| here)?\s*(?:is|:|=)\s*{_WHO}",
    )


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_FOR = _any_of(
    (
        *_praise(_BETTER),
        rf"{_WHO}\s+(?:\w+ly |overall )?(?:wins|won|prevails|outperforms|beats|surpasses|is preferred)\b",
        rf"{_WHO}\s*(?:>+|over)\s*{_OTHER}",
        rf"{_WHO}{_DOES}[^.,;:]{{0,60}}?(?<!not )(?<!no )\b(?:better|best)\b",
        r"\b(?:prefer|choose|pick|favou?r|lean towards?|go with|select|vote for|goes to|give it to|side with)"
        r"(?:red|s|ed)?\s+" + _WHO,
        r"\b(?:choosing|picking|favou?ring|leaning towards?|going with|selecting|voting for|siding with)\s+" + _WHO,
        rf"{_FINDS}{_WHO}\s+higher\b",
        rf"{_WHO}\s+(?:scores|ranks|rates|(?:deserves|gets|earns|receives|has)\s+an?)\s+{_HOW}higher\b",
        r"\b(?:I(?:'d| would)?\s+(?:say|think|find|believe)(?: it(?:'s| is)| that)?|it(?:'s| is)|so|thus|therefore"
        r"|hence|consequently|but|instead|clearly|definitely|in my (?:opinion|view)|is (?:clear|obvious))"
        rf"[,:]?\s+{_WHO}(?=\W*$|[.,;!]\s|\s+superior)",
    )
)
_AGAINST = _any_of(
    (
        *_praise(_WORSE),
        rf"{_WHO}\s*<+\s*{_OTHER}",
        rf"{_WHO}\s+loses\b",
        rf"{_WHO}{_DOES}[^.,;:]{{0,60}}?\b(?:worse|worst)\b",
        rf"{_FINDS}{_WHO}\s+lower\b",
        rf"{_WHO}\s+(?:scores|ranks|rates|(?:deserves|gets|earns|receives|has)\s+an?)\s+{_HOW}lower\b",
    )
)
_HINT_FOR, _HINT_AGAINST = _any_of(_praise(_MORE)), _any_of(_praise(_LESS))
_AND_YET = rf"(?:\s+than {_OTHER})?\s*(?:,|\b(?:but|yet|and))\s*(?:(?:but|yet|and|also|is|it|it's|being)\s+)*"
_VIRTUE, _FAULT = f"(?:{_MORE}|{_BETTER})", f"(?:{_LESS}|{_WORSE})"
_IF_ONLY = re.compile(r"\bwould be\b[^.,;]{0,80}?\bif\b", re.IGNORECASE)
_CONCEDING = re.compile(r"\b(?:while|although|(?:even )?though|whereas)\b", re.IGNORECASE)
_NOT_AS_GOOD = re.compile(rf"{_WHO}\s+(?:is|was)(?:n't| not) as \w+ as {_OTHER}", re.IGNORECASE)
_TIE = re.compile(
    "|".join(
        (
            r"\b(?:it(?:'s| is)|call(?:ed)? it|this is|that(?:'s| is)|ends? in|declare|result is)\s+"
            r"(?:\w+ly )?(?:an? )?(?:tie|draw|toss-up)\b",
            r"\b(?:both|the two|they|A and B|the responses|these)(?: (?:responses|answers|ones|options))?(?: A and B)?"
            r"(?: are| were| seem| is|'re) (?:\w+ly |about )?"
            r"(?:equal\w*|tied|the same|identical|comparable|(?:just )?as good)\b",
            r"\bequally (?:good|bad|helpful|strong|weak|valid|correct|accurate)\b",
            r"\bneither (?:one |response |answer |(?:response )?A nor (?:response )?B )?is "
            r"(?:\w+ly )?(?:better|worse)\b",
            rf"\b(?-i:[AB]) is (?:just |about |equally |every bit )?as \w+ as {_OTHER}",
            r"\bA and B (?:are )?tied?\b",
            r"^\W*(?:an? )?(?:tie|draw) between\b",
            r"\bno (?:clear )?(?:winner|difference)\b",
        )
    ),
    re.IGNORECASE,
)
_NO_TIE = re.compile(
    r"\b(?:not|not quite|nearly|almost|close to|all but) (?:an? )?(?:tie|draw|toss-up|equal\w*)\b", re.IGNORECASE
)
_ALONE = re.compile(
    r"\W*(?:(?:the|my|an?(?=\W+(?:tie|draw))|final|overall|verdict|response|assistant|option|answer|winner|choice)\W+){0,3}"
    r"((?-i:A|B|C)|tie|draw|both|equal)\W*",
    re.IGNORECASE,
)
_BEGUN = re.compile(
    r"\W*(?:(?:verdict|response|assistant|answer|winner)\W+){0,2}((?-i:A|B)|tie)"
    r"(?!\s*[,/]\s*(?:(?:or|and)\s+)?(?!\1\b)(?:(?-i:A|B)|tie)\W*(?:$|or\b|and\b|,))"
    r"(?=\W*\n|[.,:;!)*]|\s*[-\u2013\u2014]\s|\s+(?:because|since)\b)",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"(?<!not )(?<!n't )(?<!than )(?<!instead of )\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_LABEL = re.compile(
    r"^[\s*#>(\[-]{0,8}(?:(?:response|assistant|answer)\s)?((?-i:A|B))\b[*\])]{0,4}\s?:", re.IGNORECASE | re.MULTILINE
)
_LAST_WORD = re.compile(r"\b(?:overall|in conclusion|therefore|in the end|all in all|in sum)\b", re.IGNORECASE)
_IN_ALL = re.compile(rf"(?:\s+{_TEXT})?\s+(?:overall|on the whole|all in all|in the end)\b", re.IGNORECASE)


class _Said(NamedTuple):
    """The verdicts of a sentence."""

    plain: set[str]
    hinted: set[str]
    """By one virtue of several, such as being more detailed."""


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
    # A line for each is a list of what they are worth.
    if begun is None or len({label[1] for label in _LABEL.finditer(text)}) > 1:
        return said
    return _named(begun[1]) if said in (None, _named(begun[1])) else None


def _of_sentences(text: str) -> str | None:
    """The one verdict of all sentences; where one has the last word, of that one and those after it.

    What hints at a verdict counts only where nothing says one plainly.
    """
    plain, hinted = set[str](), set[str]()
    for sentence in sentences(text):
        last = _LAST_WORD.search(sentence)
        found = _of_sentence(sentence)
        if last and len(found.plain) > 1:
            found = _of_sentence(sentence[last.end() :])
        own = found.plain or found.hinted
        if last and len(own) == 1:
            plain, hinted = own, set()
        else:
            plain, hinted = plain | found.plain, hinted | found.hinted
    verdicts = plain or hinted
    return verdicts.pop() if len(verdicts) == 1 else None


def _of_sentence(sentence: str) -> _Said:
    if asks(sentence):
        return _Said(set(), set())
    if alone := _of_phrase(sentence):
        return _Said({alone}, set())
    if _TIE.search(sentence) and not _NO_TIE.search(sentence):
        return _Said({"tie"}, set())
    if lesser := _NOT_AS_GOOD.search(sentence):
        return _Said({_other(lesser)}, set())
    sentence = _IF_ONLY.sub(" ", sentence)
    conceded = asserted(_CONCEDING.sub(",", sentence))
    hinted = _hinted(conceded)
    return _Said(_plain(asserted(sentence)), hinted and hinted | _plain(conceded))


def _plain(text: str) -> set[str]:
    """Whom a text says to be better; of several, the one it says to be so overall."""
    found = [(_who(one), one.end()) for one in _FOR.finditer(text)]
    found += [(_other(one), one.end()) for one in _AGAINST.finditer(text)]
    in_all = {name for name, end in found if _IN_ALL.match(text, end)}
    return in_all if len(in_all) == 1 else {name for name, _ in found}


def _hinted(text: str) -> set[str]:
    """Whom a text says to be more of something; both where one is more of this and less of that."""
    found = set[str]()
    for hint, other_way, name in ((_HINT_FOR, _FAULT, _who), (_HINT_AGAINST, _VIRTUE, _other)):
        for one in hint.finditer(text):
            mixed = re.compile(_AND_YET + other_way, re.IGNORECASE).match(text, one.end())
            found |= {"A", "B"} if mixed else {name(one)}
    return found


def _who(found: re.Match[str]) -> str:
    return next(name for name in found.groups() if name)


def _other(found: re.Match[str]) -> str:
    return {"A": "B", "B": "A"}[_who(found)]
