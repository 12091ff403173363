"""Coin flip: does a coin still show heads after some people did or did not flip it?

    A coin is heads up. Whitney flips the coin. Erika does not flip the coin. Is the coin still heads up?
    (flip means reverse)   →   no

Items are generated; no person of one split occurs in another.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import Field, PositiveInt

from s2d_ray.answers.final import final_answer
from s2d_ray.answers.sentences import asks, correction, refuses, sentences, without_echo, without_others
from s2d_ray.answers.yes_no import yes_no
from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.tasks.task import Split, Task, Variant
from s2d_ray.tasks.vocabulary import NAMES_SOURCE, draws, load_words, words_of

QUESTION = "A coin is heads up. {acts} Is the coin still heads up? (flip means reverse)"
ACTS = {True: "{name} flips the coin.", False: "{name} does not flip the coin."}

SIDE = re.compile(r"\b(heads|tails)\b", re.IGNORECASE)
DENIED = re.compile(
    r"(?:\bnot|n't|\bcannot|\bno longer|\bno more|\bnever|\bneither)\b(?:(?!\b(?:but|and)\b)[^.,;:])*$", re.IGNORECASE
)
GONE = re.compile(r"(?:[ -]up)? (?:no (?:more|longer)|any ?more)\b", re.IGNORECASE)
NEAR = 200
"""Characters before a side in which its denial stands."""
_SIDE = r"(?: \w+)? (?:heads|tails)\b(?:[ -]up)?"
# How the coin was before, or is not.
BEFORE = re.compile(
    r"(?:\b(?:start\w*|began|begins|initial\w*|original\w*|previously|formerly|at first|first)\b[^.;]{0,100}?\b"
    r"|\bfrom )(?:heads|tails)\b(?:[ -]up)?"
    rf"|\b(?:had been|used to be){_SIDE}"
    rf"|(?:\(|\b(?:because|since|as|until|when) )(?:it |the coin )?was{_SIDE}"
    rf"|\bwas{_SIDE}(?= (?:before|until|at first|initially|originally|earlier|to (?:begin|start)|and (?:was|has been)))"
    rf"|\b(?:instead of|rather than|as opposed to|contrary to|other than|(?:reverse|opposite|other side) of){_SIDE}",
    re.IGNORECASE,
)
OPEN = re.compile(r"\b(?:heads|tails)(?:[ -]up)? n?or (?:heads|tails)\b|\b(?:if|whether)\b", re.IGNORECASE)


class CoinFlip(Task):
    """Coin flips by any number of people."""

    people: tuple[PositiveInt, ...] = Field((2,), min_length=1)
    """People in an item; of several numbers one is drawn for each item."""
    names: Path | None = None
    """Text file with a name a line; unset: first names."""
    train_items: int = Field(20_000, ge=1)
    """Unlabelled items."""
    valid_items: int = Field(3_330, ge=1)
    """Items that decide whether a further round is run."""
    test_items: int = Field(1_333, ge=1)
    """Held-out items."""
    perturbations: tuple[Literal["reverse"], ...] = ()
    """`reverse` also asks with the people in reverse order: the coin must end the same."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("yes", "no")

    @property
    def source(self) -> str:
        return f"generated from {self.names.name if self.names else NAMES_SOURCE}"

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """Different items. Raises UserError where the split's names do not make enough of them."""
        sizes: dict[Split, int] = {"train": self.train_items, "valid": self.valid_items, "test": self.test_items}
        pool = words_of(load_words(self.names), split, sizes, seed)
        random = Random(f"{seed}/{split}/coin flip")
        for names in draws(pool, self.people, sizes[split], random):
            flips = [random.random() < 0.5 for _ in names]
            acts = [ACTS[flip].format(name=name) for name, flip in zip(names, flips, strict=True)]
            answer = "no" if sum(flips) % 2 else "yes"
            yield LabelledPrompt(_ask(acts), [answer], "all", f"{len(names)} people")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """yes or no: as the text says, or by what it says that the coin shows at last.

        None where it says one and the coin shows the other, unless it marks its answer.
        """
        said = without_echo(text, prompt.text)
        marked = final_answer(said)
        if marked is not None:
            return yes_no(said) or _shown(marked)
        found = {answer for answer in (yes_no(said), _shown(said)) if answer}
        return found.pop() if len(found) == 1 else None

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        """The people in reverse order, where asked for."""
        acts = prompt.fields["acts"].splitlines()[::-1]
        return [Variant(name, _ask(acts), str) for name in self.perturbations]


def _shown(text: str) -> str | None:
    """`yes` where heads are up at last, `no` where tails are; how the coin began does not count."""
    corrected = correction(text)
    if corrected is not None and (later := _shown(corrected.tail)):
        return later
    shown = [side for one in sentences(without_others(text)) if not (asks(one) or refuses(one)) for side in _sides(one)]
    return None if not shown else "yes" if shown[-1] else "no"


def _sides(sentence: str) -> list[bool]:
    """Whether it is heads, for each side that a sentence says to be up."""
    if OPEN.search(sentence):
        return []
    sentence = BEFORE.sub(" ", sentence)
    found = [
        (one[1].lower() == "heads", sentence[max(0, one.start() - NEAR) : one.start()], one.end())
        for one in SIDE.finditer(sentence)
    ]
    return [heads != bool(DENIED.search(before) or GONE.match(sentence, end)) for heads, before, end in found]


def _ask(acts: Sequence[str]) -> Prompt:
    text = QUESTION.format(acts=" ".join(acts))
    return Prompt(content_id(text), [user(text)], {"acts": "\n".join(acts)})
