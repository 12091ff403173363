"""Which ids came already, of corpora of any size."""

import sqlite3
from hashlib import blake2b


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
        # 64 bits: two of 10^8 ids share them once in several thousand corpora.
        number = int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)
        return self._file.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount == 1

    def close(self) -> None:
        """Free the file."""
        self._file.close()
