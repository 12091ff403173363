"""Words for generated tasks, and their division over the splits: a word of one is in no other."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import perm
from pathlib import Path
from random import Random

from s2d_ray.errors import UserError
from s2d_ray.tasks.rows import shipped_file
from s2d_ray.tasks.task import Split

NAMES_SOURCE = "first names of the 1990 census of the United States (public figures)"


@lru_cache
def load_words(path: Path | None) -> tuple[str, ...]:
    """The words of a text file, one a line; the shipped first names without one.

    Raises UserError where there is no such file, or a line is not one word of two or more letters.
    """
    file = path or Path(shipped_file("names.txt"))
    if not file.is_file():
        raise UserError(f"no file of words {file}")
    words = tuple(dict.fromkeys(line.strip() for line in file.read_text().splitlines() if line.strip()))
    for word in words:
        if len(word) < 2 or not word.isalpha():
            raise UserError(f"{file}: {word!r} is not one word of two or more letters")
    return words


def words_of(words: Sequence[str], split: Split, sizes: Mapping[Split, int], seed: int) -> list[str]:
    """The words of one split: as large a part of all words as its items are of all items, at least a sixth."""
    shuffled = sorted(words)
    Random(f"{seed}/words").shuffle(shuffled)
    total = sum(sizes.values())
    valid, test = (max(sizes[held_out] * len(words) // total, len(words) // 6) for held_out in ("valid", "test"))
    parts = {"valid": slice(valid), "test": slice(valid, valid + test), "train": slice(valid + test, None)}
    return shuffled[parts[split]]


def draws(words: Sequence[str], lengths: Sequence[int], count: int, random: Random) -> Iterator[tuple[str, ...]]:
    """`count` different tuples of different words, of the given lengths in turn by chance.

    Raises UserError where the words do not suffice.
    """
    possible = sum(perm(len(words), length) for length in set(lengths))
    if count > possible or max(lengths) > len(words):
        raise UserError(
            f"{len(words)} words make {possible} different items of {max(lengths)} or fewer, not {count}: "
            "ask for fewer items or give more words"
        )
    seen: set[tuple[str, ...]] = set()
    while len(seen) < count:
        drawn = tuple(random.sample(words, random.choice(lengths)))
        if drawn not in seen:
            seen.add(drawn)
            yield drawn
