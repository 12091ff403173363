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

from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.tasks.task import Split, Task, Variant
from s2d_ray.tasks.vocabulary import NAMES_SOURCE, draws, load_words, words_of

QUESTION = "A coin is heads up. {acts} Is the coin still heads up? (flip means reverse)"
ACTS = {True: "{name} flips the coin.", False: "{name} does not flip the coin."}


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
        """yes or no, in the first of these ways that the text has.

        After the last `answer is`; as the first word; as the only one of the two; by what the coin shows at last.
        """
        marked = re.findall(r"answer(?:\s+is|:)\W*(yes|no)\b", text, re.IGNORECASE)
        said = re.findall(r"\b(?:yes|no)\b", text.lower())
        shown = re.findall(r"\b(not |no longer )?(?:still )?(heads|tails)\b", text.lower())
        if marked:
            return str(marked[-1]).lower()
        if first := re.match(r"\W*(yes|no)\b", text, re.IGNORECASE):
            return first[1].lower()
        if said:
            return said[0] if len(set(said)) == 1 else None
        return None if not shown else "yes" if (shown[-1][1] == "heads") == (not shown[-1][0]) else "no"

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        """The people in reverse order, where asked for."""
        acts = prompt.fields["acts"].splitlines()[::-1]
        return [Variant(name, _ask(acts), str) for name in self.perturbations]


def _ask(acts: Sequence[str]) -> Prompt:
    text = QUESTION.format(acts=" ".join(acts))
    return Prompt(content_id(text), [user(text)], {"acts": "\n".join(acts)})
