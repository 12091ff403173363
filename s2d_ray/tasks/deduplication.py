"""Which ids came already, of corpora of any size, and which texts say the same."""

import re
import sqlite3
from hashlib import blake2b

from s2d_ray.answers.normalisation import caseless

_QUOTES = re.compile(r"""["'`\u00bf\u00a1\u2018-\u201f\u00ab\u00bb]""")
_ENDS = re.compile(r"(?:[.,;:?]|(?<!\d)!)+(?=\s|$)")
"""Punctuation behind a word; 5! and 1.5 have none."""


def alike(text: str) -> str:
    """The same for texts that differ in case, spaces and punctuation only; signs of formulas count."""
    plain = caseless(text)
    return " ".join(_ENDS.sub("", _QUOTES.sub("", plain)).split()) or plain


class SeenIds:
    """A set of ids in a temporary file of SQLite's, of which only a few MiB are in memory."""

    def __init__(self) -> None:
        # The empty name stands for a file that is removed when it is closed.
        self._file = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode = OFF", "cache_size = -8192"):
            self._file.execute(f"PRAGMA {setting}")
        self._file.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY)")
        self._file.execute("BEGIN")

    def add(self, name: str) -> bool:
        """Add an id; whether it is new."""
        return self._file.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_number(name),)).rowcount == 1

    def __contains__(self, name: str) -> bool:
        return self._file.execute("SELECT 1 FROM seen WHERE id = ?", (_number(name),)).fetchone() is not None

    def close(self) -> None:
        """Free the file."""
        self._file.close()


def _number(name: str) -> int:
    # 64 bits: two of 10^8 ids share them once in several thousand corpora.
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)
