"""Which of the names that a task knows a text gives as its answer, and whether it gives one of several aliases."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import pairwise

from s2d_ray.answers.final import final_answer
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

    def chosen(self, text: str, asked: str) -> str | None:
        """The name that a text gives as the answer to `asked`, or None.

        The final answer that the text marks counts first; then a name in bold, where it is the only one; then the
        first sentence that asserts a name. In it the first name counts, and none where several are offered side by
        side (`France or Spain`). Names that are denied, asked about, only compared with, said to be another's
        opinion, or part of a name in the question (`Kansas City`) do not count; a name that is the question's subject
        counts last.
        """
        said, subjects = self._without_subjects(without_echo(text, asked), asked)
        marked = final_answer(said, fits=self.found)
        if marked is not None:
            return self._one_of(marked, subjects)
        corrected = correction(said)
        if corrected is not None:
            later = self._first(corrected.tail, subjects)
            if later or corrected.withdrawn:
                return later
        bold = {name for part in re.findall(r"\*\*([^*\n]+)\*\*", asserted(said)) for name in self.found(part)}
        return bold.pop() if len(bold) == 1 else self._first(said, subjects)

    def _first(self, text: str, subjects: Set[str]) -> str | None:
        """The name of the first sentence that asserts one; one of the subjects only where no other is asserted."""
        kept = [_BESIDE_NAMES.sub(" ", asserted(_without_refusal(one))) for one in sentences(text)]
        for one in kept:
            if set(self.found(one)) - subjects:
                return self._one_of(one, subjects)
        return next((found for one in kept if (found := self._one_of(one, set()))), None)

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

    def _without_subjects(self, text: str, asked: str) -> tuple[str, Set[str]]:
        """The text without longer names of the question that hold a known one, and the known ones in the question."""
        subjects = set()
        for capitalised in _CAPITALISED.findall(" ".join(filter(asks, sentences(asked)))):
            for name in self.found(capitalised):
                if self._names.get(folded(capitalised)) == name:
                    subjects.add(name)
                else:
                    text = re.sub(rf"(?<!\w){re.escape(capitalised)}(?!\w)", " ", text)
        return text, subjects


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
    there is none: a refusal, a question, or only what the prompt says.
    """
    said = without_echo(text, asked).strip()
    marked = final_answer(said)
    if marked is not None:
        return marked or None
    corrected = correction(said)
    if corrected is not None:
        later = _answering_sentence(corrected.tail)
        if later or corrected.withdrawn:
            return later
    return _answering_sentence(said)


_FILLER = re.compile(
    r"\W*(?:(?:sure|of course|certainly|hello|hi|ok(?:ay)?|well|yes|no|correct|right|true|unknown|n/a|none"
    r"|you(?:'re| are) (?:right|correct))\W*"
    r"|(?:(?:a|an|that's|what) )*(?:great|good|interesting|excellent) question.*"
    r"|(?:thank you for|let me|let's|here (?:is|are)|i'd be happy"
    r"|i understand|i apologi[sz]e)\b.*)",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"\W*(?:so|therefore|thus|hence|in conclusion)\b", re.IGNORECASE)


def _answering_sentence(text: str) -> str | None:
    own = [kept for one in sentences(text) if (kept := _own(_without_refusal(one))) and not _FILLER.fullmatch(kept)]
    concluding = [one for one in own if _CONCLUDES.match(one)]
    return concluding[-1] if concluding else own[0] if own else None


_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|do|does|did|think|know|say|said|believe|doubt|has|had)\b|'(?:s|re|m)\b|n't",
    re.IGNORECASE,
)
_LEFT_OUT = re.compile(r"\w\s+(?:is|are|was|were|do|does|did|has|have)\W*$", re.IGNORECASE)
_STUB = re.compile(
    r"(?:.*(?:\b(?:is|are|was|were|be|do|does|did|has|have|and|but|so)\b|'s)"
    r"|\W*(?:i|it|they|that|the (?:\w+ )?answer))?\W*",
    re.IGNORECASE | re.DOTALL,
)
"""A subject of which nothing is said any more."""


def _own(sentence: str) -> str:
    """What is left of a sentence without what it denies; a title (`Never on Sunday`) denies nothing.

    Empty for what only leads up to something (`You asked:`).
    """
    if sentence.rstrip("*_ ").endswith(":"):
        return ""
    if not _VERB.search(sentence) and not asks(sentence):
        return sentence
    kept = " ".join(asserted(sentence).split())
    left = sentence if kept == " ".join(sentence.split()) else kept.strip(" ,;:.-")
    # `Saturn is.` is whole.
    return "" if _STUB.fullmatch(left) and not (left and _LEFT_OUT.search(sentence)) else left


_ASIDE = re.compile(
    rf", (?:which|who|where)\b[^,]*,|"
    rf"(?:;|,? (?:while|whereas|although|though)\b|, (?:not|which|who|where|but)\b|\(|{_BESIDE}|\blooks? like\b).*",
    re.IGNORECASE | re.DOTALL,
)


def gives_one_of(answer: str, aliases: Iterable[str], key: Callable[[str], str]) -> bool:
    """Whether an answer is one of the aliases, or asserts one of them and no alternative to it.

    An alias in an aside (`a horse, which is no antelope`) or beside another answer (`a horse or an antelope`) is not
    asserted.
    """
    keys = [found for alias in aliases if (found := key(alias))]
    if key(answer) in keys:
        return True
    said = f" {key(_ASIDE.sub('', answer))} "
    holding = sorted((alias for alias in keys if f" {alias} " in said), key=len, reverse=True)
    for alias in holding:
        said = said.replace(f" {alias} ", "  ")
    return bool(holding) and not re.search(r" or |\beither\b", said)
