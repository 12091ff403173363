"""Which of the names that a task knows a text gives as its answer, and whether it gives one of several aliases."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import pairwise
from typing import NamedTuple

from s2d_ray.answers.final import UNDECORATED, final_answer
from s2d_ray.answers.sentences import asks, asserted, correction, refuses, sentences, straight, without_echo

# What follows is not where something is, but what it is compared with or lies beside.
_BESIDE = (
    r"\b(?:close to|near(?:by)?|next to|(?<!the )borders?(?: with)?|bordering|between|beside|adjacent to|far from"
    r"|formerly|(?:once|previously) \w+ of|neighbou?r\w*(?: of| to)?|like|similar to|related to|unlike|than"
    r"|(?:miles|kilomet(?:er|re)s|km|just|lies|is|directly) (?:to the )?(?:north|south|east|west)\w* of"
    r"|not to be confused with|followed by|compared (?:to|with)|along with|together with)\b"
)
_BESIDE_NAMES = re.compile(_BESIDE + r"[^.,;:!?\n]*", re.IGNORECASE)
_OR = re.compile(
    r"[\s*_\"'`]*(?:/|,?\s*\b(?:or|and)\b)[\s*_\"'`]*(?:(?:in|the|maybe|perhaps|possibly|it is)\s+)*", re.IGNORECASE
)
_CAPITALISED = re.compile(r"[^\W\d_a-z][\w'.-]*(?: [^\W\d_a-z][\w'.-]*)*")
_CLAUSE_END = re.compile(r"[,;:]\s|\s[\u2013\u2014-]\s|\b(?:but|and)\b")
_WHEREAS = re.compile(r"(?<=\w),? (?:whereas|while)\b(?! you| it)", re.IGNORECASE)
_RULED_OUT = re.compile(r"[:(\u2013\u2014-]\s*(?:no|wrong|false|incorrect)[\W_]*$", re.IGNORECASE)
"""`Peru - no`"""
_REFERS = re.compile(r"\b(?:it|its|this|here|the (?:city|answer))\b", re.IGNORECASE)
_SUBJECT = "\N{WHITE SQUARE}"
"""Stands for a name of the question that holds a known one."""
_ASKS = re.compile(
    r"^\W*(?:which|what|where|who|how|is|are|was|were|do|does|did|can|could|would|name|in|on|of|to)\b|\bUS\b", re.I
)


class _Question(NamedTuple):
    """What a question is about."""

    subjects: Set[str]
    """Known names."""
    topic: re.Pattern[str]
    """Any of its capitalised names, folded."""

    def is_topic_of(self, clause: str) -> bool:
        return bool(self.topic.search(folded(clause)))


class KnownNames:
    """The names that can be an answer. Case, accents and typographic apostrophes make no difference."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: how a name may be written → the name."""
        self._names = {folded(written): name for written, name in names.items()}
        longest_first = sorted(self._names, key=len, reverse=True)
        # Not \b, which a name that ends with a dot would not have.
        self._pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")

    def found(self, text: str) -> list[str]:
        """Every known name in the text, in order, whatever is said of it."""
        return [self._names[match.group()] for match in self._pattern.finditer(folded(text))]

    def chosen(self, text: str, asked: str, cut: bool = False) -> str | None:
        """The name that a text gives as the answer to `asked`, or None.

        The final answer that the text marks counts first; then a name in bold, where it is the only one; then a
        sentence that asserts a name: the last that concludes, or one on what the question is about, or the first.
        In it the first name counts, and none where several are offered side by side (`France or Spain`). Names that
        are denied, asked about, only compared with, only described, said to be another's opinion, or part of a name
        in the question (`Kansas City`) do not count; a name that is the question's subject counts last.

        Of a text that was cut (`cut`) a sentence counts only where it says what it is about.
        """
        said, question = self._without_subjects(without_echo(text, asked), asked)
        marked = final_answer(said, fits=self.found)
        if marked is not None:
            return self._one_of(marked, question.subjects)
        corrected = correction(said)
        if corrected is not None:
            later = self._stated(corrected.tail, question, cut)
            if later or corrected.withdrawn:
                return later
        bold = {name for part in re.findall(r"\*\*([^*\n]+)\*\*", asserted(said)) for name in self.found(part)}
        return bold.pop() if len(bold) == 1 else self._stated(said, question, cut)

    def _stated(self, text: str, question: _Question, cut: bool) -> str | None:
        """The name that the sentences assert; one of the question's subjects only where no other is asserted."""
        own = [one for one in sentences(_WHEREAS.sub(".", text)) if not _RULED_OUT.search(one)]
        kept = [_BESIDE_NAMES.sub(" ", asserted(_without_refusal(one))) for one in own]
        naming = [one for one in kept if set(self.found(one)) - question.subjects]
        naming = [one for one in naming if _CONCLUDES.match(one)][-1:] or naming
        for one in naming:
            if (found := self._on_topic(one, question)) is not None:
                return self._one_of(found, question.subjects)
        for one in naming:
            if self._refers(one) if cut else not self._describes(one):
                return self._one_of(one, question.subjects)
        return next((found for one in kept if not naming and (found := self._one_of(one, set()))), None)

    def _on_topic(self, sentence: str, question: _Question) -> str | None:
        """The sentence from its first clause on that names a name and what the question is about."""
        starts = [0, *(end.end() for end in _CLAUSE_END.finditer(sentence))]
        for start, end in pairwise([*starts, len(sentence)]):
            clause = sentence[start:end]
            if question.is_topic_of(clause) and set(self.found(clause)) - question.subjects:
                return sentence[start:]
        return None

    def _refers(self, sentence: str) -> bool:
        """Whether a sentence is on what was asked without naming it (`It is in France`), or a name alone."""
        return bool(_REFERS.search(sentence) or _CONCLUDES.match(sentence)) or not _VERB.search(sentence)

    def _describes(self, sentence: str) -> bool:
        """Whether a sentence only says something of a name: `Peru is a country in South America`."""
        verb = r"(?:'s\b| (?:has|have)\b| (?:is|was|lies) (?:an?|in|on|located|situated|near|home)\b)"
        start = re.match(rf"\W*(?:the )?{self._pattern.pattern}{verb}", folded(sentence))
        return start is not None

    def _one_of(self, text: str, subjects: Set[str]) -> str | None:
        """The first name, unless the names that stand beside it are alternatives to it."""
        text = folded(text)
        matches = list(self._pattern.finditer(text))
        matches = [one for one in matches if self._names[one.group()] not in subjects] or matches
        for one, other in pairwise(matches):
            between = text[one.end() : other.start()]
            if self._names[one.group()] != self._names[other.group()] and _OR.fullmatch(between):
                return None
            if re.search(r"\w", between):
                break
        return self._names[matches[0].group()] if matches else None

    def _without_subjects(self, text: str, asked: str) -> tuple[str, _Question]:
        """The text with `_SUBJECT` for longer names of the question that hold a known one, and the question."""
        subjects, topics = set(), {_SUBJECT}
        for capitalised in _CAPITALISED.findall(" ".join(_ASKS.sub("", one) for one in sentences(asked) if asks(one))):
            topics.add(folded(capitalised))
            for name in self.found(capitalised):
                if self._names.get(folded(capitalised)) == name:
                    subjects.add(name)
                else:
                    text = re.sub(rf"(?<!\w){re.escape(capitalised)}(?!\w)", _SUBJECT, text)
        known = "|".join(map(re.escape, topics))
        return text, _Question(subjects, re.compile(rf"(?<!\w)(?:{known})(?!\w)"))


def folded(text: str) -> str:
    """Without accents, case and typographic apostrophes: models write Bogotá, GeoNames has Bogota."""
    decomposed = unicodedata.normalize("NFKD", straight(text))
    return "".join(char for char in decomposed if not unicodedata.combining(char)).casefold()


def _without_refusal(sentence: str) -> str:
    """What a sentence says beside a refusal: `I'm not sure, but I would say France`."""
    if not refuses(sentence):
        return sentence
    return ", but ".join(part for part in re.split(r",? but ", sentence) if not refuses(part))


def answer_in_words(text: str, asked: str) -> str | None:
    """The answer of a free text: what it marks, or the sentence that answers, without what it denies or repeats.

    The last sentence that concludes (`So …`) answers, or else the first that says something of its own. None where
    there is none: a refusal, a question, a mere yes to the person's opinion, or only what the prompt says.
    """
    said = without_echo(text, asked).strip()
    marked = final_answer(said)
    if marked is not None:
        return marked or None
    if _YES_OR_NO.fullmatch(said):
        return said.strip(UNDECORATED + ".!")
    corrected = correction(said)
    if corrected is not None:
        later = _answering_sentence(re.sub(r"^(?:no|actually)\b[\s,.:;!]*", "", corrected.tail, flags=re.IGNORECASE))
        if later or corrected.withdrawn:
            return later
    return _answering_sentence(said)


_YES_OR_NO = re.compile(r"[\W_]*(?:yes|no)[\W_]*", re.IGNORECASE)
_SAYS_NOTHING = re.compile(
    r"(?:\W*\b(?:a|about|absolutely|afraid|again|agree|ah|almost|am|an|and|answer|are|asking|assumption|believe"
    r"|but|certainly|close|correct|course|definitely|disagree|done|exactly|excellent|false|for|good|great|guess|hello|hey|hi|hmm"
    r"|i|i'm|in|incorrect|indeed|is|it's|job|mistaken|my|n/a|nice|no|none|nope|not|of|oh|ok|okay|opinion|perfect|point"
    r"|precisely|quite|really|right|so|sorry|sure|that|that's|the|think|this|totally|true|try|unfortunately|unknown|very"
    r"|wait|was|well|with|wrong|yeah|yes|you|you're|your)\b)+\W*|[\s!-/:-@\[-`{-~\u2013-\u2026]*",
    re.IGNORECASE,
)
"""A sentence that only greets, agrees or disagrees, or has no word nor symbol at all, answers no question."""
_LEADS_UP = re.compile(
    r"\W*(?:(?:(?:a|an|that's|what) )*(?:great|good|interesting|excellent) question|thanks?(?: you)? (?:for|so)\b"
    r"|thank you[.!]|(?:let me|let's|here (?:is|are)|i'd be happy|i understand|i apologi[sz]e|(?:my )?apologies)\b).*",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"\W*(?:so|therefore|thus|hence|in conclusion)\b", re.IGNORECASE)


def _answering_sentence(text: str) -> str | None:
    own = [kept for one in sentences(text) if (kept := _own(_without_refusal(one))) and not _fills(kept)]
    concluding = [one for one in own if _CONCLUDES.match(one)]
    return concluding[-1] if concluding else own[0] if own else None


def _fills(sentence: str) -> bool:
    return bool(_SAYS_NOTHING.fullmatch(sentence) or _LEADS_UP.fullmatch(sentence))


_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|do|does|did|think|know|say|said|believe|doubt|has|had|lies)\b|'(?:s|re|m)\b|n't",
    re.IGNORECASE,
)
_LEFT_OUT = re.compile(r"\w\s+(?:is|are|was|were|do|does|did|has|have)\W*$", re.IGNORECASE)
_STUB = re.compile(
    r"(?:.*(?:\b(?:is|are|was|were|be|do|does|did|has|have|would|could|should|can|will|and|but|so)\b|'s)(?: \w+ly)?"
    r"|\W*(?:i|it|they|that|the (?:\w+ )?answer))?\W*",
    re.IGNORECASE | re.DOTALL,
)
"""A subject of which nothing is said any more."""
_NOT_THAT = re.compile(r"\W*Not (?:[a-z][\w-]* ?)+(?:[,.;]|$)")
"""`Not a horse.` `Not a Penny More` is a title."""
_RELATIVE = re.compile(
    r"(,?) (?:which|who|that|as)(?: (?:is|are|was|were|has|have|had|do|does|did|can|could))?\s*$", re.IGNORECASE
)
_GAP = "\N{OBJECT REPLACEMENT CHARACTER}"


def _own(sentence: str) -> str:
    """What is left of a sentence without what it denies; a title (`Never on Sunday`) denies nothing.

    Empty for what only leads up to something (`You asked:`).
    """
    if sentence.rstrip("*_ ").endswith(":") or asks(sentence):
        return ""
    lead, _, rest = sentence.partition(", but ")
    if rest and _fills(lead):
        return _own(rest)
    parts = asserted(sentence, _GAP).split(_GAP)
    if len(parts) == 1 or not (_VERB.search(sentence) or _NOT_THAT.match(sentence)):
        return sentence
    left = _joined(parts)
    # `They are wrong: Saturn is.` is whole.
    return "" if _STUB.fullmatch(left) and not (left and _LEFT_OUT.search(sentence)) else left


def _joined(parts: Iterable[str]) -> str:
    """What a sentence says that has gaps: around an aside all of it, else the clause behind the gap.

    Empty where the gap is in the midst of a clause.
    """
    said, *rest = (_RELATIVE.sub(r"\1", part) for part in parts)
    for part in (one for one in rest if re.search(r"\w", one)):
        if re.search(r"\w[^\w]*[,(\u2013\u2014]\s*$", said):
            said = f"{said.rstrip(' ,(')}{re.sub(r'^[ ,)]+', ' ', part)}"
        elif re.search(r"\w", said) and not re.match(r"\s*(?:[,;:.\u2013\u2014]|-\s|(?:but|instead|rather)\b)", part):
            return ""
        else:
            said = part
    *whole, last = re.split(r"[,;:\u2014]\s?", said)
    if _STUB.fullmatch(last) and _VERB.search(" ".join(whole)):
        said = said.removesuffix(last)
    said = re.sub(r"^\W*(?:(?:but|instead|rather|since|because)\b\W*)+", "", said)
    return " ".join(said.split()).strip(" ,;:.-\u2013\u2014")


_ASIDE = re.compile(
    rf", (?:which|who|where)\b[^,]*,|"
    rf"(?:;|,? (?:while|whereas|although|though)\b|, (?:not|which|who|where|but)\b|\(|{_BESIDE}|\blooks? like\b"
    r"|\b(?<!was )(?<!were )(?<!been )(?:succeeded|preceded|replaced|defeated)\b(?! by\b)"
    r"|\b(?:north|south|east|west) of\b).*",
    re.IGNORECASE | re.DOTALL,
)
_PART_OF_NAME = re.compile(r"\b((?:North|South|East|West)(?:ern)?|New|Upper|Lower) (?=[A-Z])")


def gives_one_of(answer: str, aliases: Iterable[str], key: Callable[[str], str]) -> bool:
    """Whether an answer is one of the aliases, or asserts one of them and no alternative to it.

    An alias in an aside (`a horse, which is no antelope`), beside another answer (`a horse or an antelope`) or in a
    longer name (`South Georgia`) is not asserted.
    """
    aliases = list(aliases)
    if key(answer) in [found for alias in aliases if (found := key(alias))]:
        return True
    keys = [found for alias in aliases if (found := key(_one_word(alias)))]
    said = f" {key(_one_word(_ASIDE.sub('', answer)))} "
    holding = sorted((alias for alias in keys if f" {alias} " in said), key=len, reverse=True)
    for alias in holding:
        said = said.replace(f" {alias} ", "  ")
    return bool(holding) and not re.search(r" or |\beither\b", said)


def _one_word(text: str) -> str:
    """The text with `SouthxGeorgia` for `South Georgia`, in which `Georgia` is not found."""
    return _PART_OF_NAME.sub(r"\1x", text)
