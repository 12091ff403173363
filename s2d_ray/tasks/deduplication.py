"""Which ids came already, of corpora of any size, and which texts say the same."""

import re
import sqlite3

from s2d_ray.answers.normalisation import caseless

_QUOTES = re.compile(r"""["'`\u00bf\u00a1\u2018-\u201f\u00ab\u00bb]""")
_ENDS = ".,;:?!"
"""Punctuation behind a word; that within 5!, 1.5 and 10:30 is part of it."""


def alike(text: str) -> str:
    """The same for texts that differ in case, spaces and punctuation only; signs of formulas count."""
    plain = caseless(text)
    words = [word if word[-1] not in _ENDS else _bare(word) for word in _QUOTES.sub("", plain).split()]
    return " ".join(filter(None, words)) or plain


def _bare(word: str) -> str:
    # Not a regular expression: those that say this take a square of the time for a long row of dots.
    bare = word.rstrip(_ENDS)
    is_factorial = word[len(bare)] == "!" and bare[-1:].isdecimal()
    return f"{bare}!" if is_factorial else bare


class SeenIds:
    """Ids, each with what was said of it first, in a temporary file of SQLite's; only a few MiB are in memory."""

    def __init__(self) -> None:
        # The empty name stands for a file that is removed when it is closed.
        self._file = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode = OFF", "cache_size = -8192"):
            self._file.execute(f"PRAGMA {setting}")
        self._file.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, said TEXT)")
        self._file.execute("BEGIN")
        self._rows = self._file.cursor()

    # A hash has 64 bits: two of 10^8 ids share theirs once in several thousand corpora.

    def add(self, name: str, said: str = "") -> bool:
        """Add an id; whether it is new."""
        return self._rows.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (hash(name), said)).rowcount == 1

    def said_of(self, name: str) -> str:
        """What was said of an id; empty where it is not there."""
        found = self._rows.execute("SELECT said FROM seen WHERE id = ?", (hash(name),)).fetchone()
        return found[0] if found else ""

    def __contains__(self, name: str) -> bool:
        return self._rows.execute("SELECT 1 FROM seen WHERE id = ?", (hash(name),)).fetchone() is not None

    def close(self) -> None:
        """Free the file."""
        self._file.close()
