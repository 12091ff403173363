"""Last letter concatenation: the last letters of some words, written as one string.

    Take the last letters of the words in "Edgar Bob" and concatenate them.   →   rb

Items are generated. No word of one split occurs in another, so that answers cannot be learned word by word.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import Field, PositiveInt

from s2d_ray.answers.final import final_answer
from s2d_ray.answers.lengths import readable
from s2d_ray.answers.sentences import correction, sentence_ends, without_denied, without_echo
from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.task import Split, Task, Variant
from s2d_ray.tasks.vocabulary import NAMES_SOURCE, draws, load_words, words_of

QUESTION = 'Take the last letters of the words in "{words}" and concatenate them.'

STRING = re.compile(
    r"(?:(?<!\w)[\"'`]|\*\*|(?<!\w)\*)([^\W\d_](?:[\s,.+-]?[^\W\d_])*)[.,]?(?=[\"'`*])"
    r"|(?:(?:\b(?:is|are|get|gives?|spells?|forms?|makes?|becomes?|yields?)|'s)[ \t]+|:[ \t]+|(?:=>?|→|⇒|->)[ \t]*)"
    r"([^\W\d_](?:[^\W\d_]*|(?:[ -][^\W\d_])+))[\W_]*$",
    re.MULTILINE,
)
SINGLE = re.compile(r"[^\W\d_](?:[\s,.+·_/&\"'`*-]+(?:and\s+)?[^\W\d_])+")
_MARKS = r"[\"'`*]{0,3}"
LETTER = (
    r"(?<![\w'])(?!a (?!(?:and|from|of|in|for|followed|then)\b)\w)"  # `a` may be the article
    rf"{_MARKS}([^\W\d_]){_MARKS}(?!\w)(?: (?:from|of|in|for) {_MARKS}\w+{_MARKS})?"
)
LETTERS = re.compile(rf"{LETTER}(?:(?:,?\s+and(?: then)?|\s?,(?: then)?|,?\s+followed by|\s?[+&])\s*{LETTER})+")
"""Letters one by one: `r and b`, `"r" from Edgar, "b" from Bob`."""
LED_IN = re.compile(r"\W*(?:(?:so|thus|therefore|hence|then)\b[\s,:]*)?", re.IGNORECASE)
PUNCTUATION = " .,!\n\t*_`\"'()[]"
NO_ANSWER = re.compile(
    r"(?:yes|no|none|unknown|sure|ok|okay|nothing|sorry|tie|idk|so|thus|well|hi|hello|oh|ah|hm+|note|here|done|right"
    r"|step|first|then|great|true|false)"
)


class LastLetter(Task):
    """Last letter concatenation over names, or words of your own."""

    words: tuple[PositiveInt, ...] = Field((2,), min_length=1)
    """Words in an item; of several numbers one is drawn for each item."""
    vocabulary: Path | None = None
    """Text file with a word a line; unset: first names."""
    train_items: int = Field(200, ge=1)
    """Unlabelled items."""
    valid_items: int = Field(200, ge=1)
    """Items that decide whether a further round is run."""
    test_items: int = Field(200, ge=1)
    """Held-out items."""
    perturbations: tuple[Literal["reverse"], ...] = ()
    """`reverse` also asks for the words in reverse order: the answer must come out reversed."""

    @property
    def metric(self) -> str:
        return "exact match"

    @property
    def source(self) -> str:
        return f"generated from {self.vocabulary.name if self.vocabulary else NAMES_SOURCE}"

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """Different items. Raises UserError where the split's words do not make enough of them."""
        sizes: dict[Split, int] = {"train": self.train_items, "valid": self.valid_items, "test": self.test_items}
        pool = words_of(load_words(self.vocabulary), split, sizes, seed)
        for words in draws(pool, self.words, sizes[split], Random(f"{seed}/{split}/last letter")):
            yield LabelledPrompt(_ask(words), ["".join(w[-1] for w in words).lower()], "all", f"{len(words)} words")

    def ask(self, text: str) -> Prompt:
        """The prompt of words alone, or of a question with the words in double quotes, which is asked as it is."""
        quoted = re.search(r"[\"“]([^\"“”]+)[\"”]", text)
        words = (quoted[1] if quoted else text).split()
        if not words or not all(word.isalpha() for word in words):
            raise UserError('task last_letter asks about words: type them alone, or in "double quotes" in a question')
        return Prompt(content_id(text), [user(text)], {"words": " ".join(words)}) if quoted else _ask(words)

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The letters of the final answer that the text marks; the whole text if it is one string of letters.

        Else the last string of as many letters as there are words: in quotes, code or bold, alone in a sentence, one
        by one, or after `is`, `:` or `=` at a line's end. Letters that are set apart (`r b`, `r-b`) are one string.
        A marked answer that is one letter of several, or one of the words, is only begun there.
        """
        words = prompt.fields["words"].casefold().split()
        count = len(words)
        said = readable(without_echo(text, prompt.text))
        marked = final_answer(said)
        if marked is not None:
            letters = _letters(marked, count) or _last_string(marked, count)
            begun = letters is None or (len(letters) != count and (len(letters) == 1 or letters in words))
            return _last_string(without_denied(said), count) if marked and begun else letters
        corrected = correction(said)
        if corrected is not None and ((later := _last_string(corrected.tail, count)) or corrected.withdrawn):
            return later
        return _letters(said, count) or _last_string(without_denied(said), count)

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        """The words in reverse order, where asked for."""
        reverse = prompt.fields["words"].split()[::-1]
        return [Variant(name, _ask(reverse), lambda answer: answer[::-1]) for name in self.perturbations]


def _letters(text: str, count: int) -> str | None:
    """The letters that are all of a text: one string of any length, or `count` single ones set apart."""
    bare = text.strip(PUNCTUATION).lower()
    if bare.isalpha() and (len(bare) == count or not NO_ANSWER.fullmatch(bare)):
        return bare
    letters = re.sub(r"\band\b|[\W_]", "", bare) if SINGLE.fullmatch(bare) else ""
    return letters if len(letters) == count else None


def _last_string(text: str, count: int) -> str | None:
    """The last string of `count` letters; one in brackets, which explain what is before them, only without another."""
    outside = re.sub(r"\([^()]*\)", " ", text)
    return next((found[-1] for one in (outside, text) if (found := _strings(one, count))), None)


def _strings(text: str, count: int) -> list[str]:
    """Every string of `count` letters that is set off from the words around it, in the order of their ends."""
    found = [(match.end(), match[1] or match[2]) for match in STRING.finditer(text)]
    found += [(match.end(), "".join(re.findall(LETTER, match.group()))) for match in LETTERS.finditer(text)]
    for start, end in pairwise([0, *sentence_ends(text), len(text)]):
        alone = text[LED_IN.match(text, start, end).end() : end].strip(PUNCTUATION)  # type: ignore[union-attr]
        if alone.isalpha() and not NO_ANSWER.fullmatch(alone.lower()):
            found.append((end, alone))
    read = [(place, letters) for place, one in found if (letters := _letters(one, count)) and len(letters) == count]
    return [letters for _, letters in sorted(read)]


def _ask(words: Sequence[str]) -> Prompt:
    text = QUESTION.format(words=" ".join(words))
    return Prompt(content_id(text), [user(text)], {"words": " ".join(words)})
