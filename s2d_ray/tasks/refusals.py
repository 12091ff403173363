"""A row that is no prompt is refused with a reason, counted and told of; the others go on."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from math import isnan
from typing import Any, NamedTuple, TypeVar

from s2d_ray.data.records import Row
from s2d_ray.errors import UserError
from s2d_ray.tasks.deduplication import SeenIds

S = TypeVar("S")
T = TypeVar("T")


class Place(NamedTuple):
    """Where a row is."""

    source: str
    """A file, or a data set on the hub."""
    number: int
    """From 1."""
    unit: str = "row"
    """What is counted: `row`, `line` where a row begins in a line of its own, or `prompt` of a task's."""

    def __str__(self) -> str:
        return f"{self.source}, {self.unit} {self.number:,}"


Placed = tuple[Place, Row]


class Refused(Exception):
    """Why a row is no prompt. What the row itself says is quoted behind a colon only."""


class BadRows:
    """What in a file is no row at all, as a line that is no JSON: refused like other rows, but only up to a number.

    More is a mistake about the file, and no bad row.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.number = 0
        self.first = ""
        """The place of the first of them, and why."""

    def refuse(self, place: Place, reason: str) -> None:
        """Count one. Raises UserError where these are too many."""
        self.number, self.first = self.number + 1, self.first or f"{place}: {reason}"
        if self.number > self._most:
            found = f"{self.number:,} bad {place.unit}s" if self._most else f"a bad {place.unit}"
            raise UserError(f"{found} found, more than max_bad_lines {self._most:,}; the first is {self.first}")
        if counts := account():
            counts.refuse(place, reason)


class Account:
    """What became of the rows of a corpus, however often they were read."""

    def __init__(self, seen: SeenIds) -> None:
        self._seen = seen
        self._rows: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        """Reason → rows."""
        self.first_refused = ""
        """The place of the first of them, and why."""
        self.held_out_too = 0
        """Prompts left out of training, since they or their group are held out."""
        self.alike = 0
        """Of these, prompts that a held-out one equals but for case, spaces and punctuation."""

    @property
    def rows(self) -> int:
        """That were read."""
        return sum(self._rows.values())

    def has_read(self, source: str, rows: int) -> None:
        """All rows of a source were read."""
        self._rows[source] = rows

    def refuse(self, place: Place, reason: str) -> None:
        """A row was refused."""
        if self._seen.add(str(place)):
            self.first_refused = self.first_refused or f"{place}: {reason}"
            # Not the whole text: it may quote the row, and another row another text.
            self.refused[reason.partition(":")[0]] += 1

    def leave_out(self, alike: bool) -> None:
        """A prompt was left out of training; `alike`: not the very same is held out."""
        self.held_out_too += 1
        self.alike += alike


_account: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def accounted() -> Iterator[Account]:
    """While the block runs, what becomes of rows is counted."""
    with closing(SeenIds()) as seen:
        token = _account.set(account := Account(seen))
        try:
            yield account
        finally:
            _account.reset(token)


def account() -> Account | None:
    """Where to count what becomes of rows, if anywhere."""
    return _account.get()


def each(rows: Iterable[tuple[Place, S]], read: Callable[[S], T]) -> Iterator[T]:
    """What `read` makes of each row but those for which it raises Refused. Raises UserError where that is all."""
    return (made for _, made in each_placed(rows, read))


def each_placed(rows: Iterable[tuple[Place, S]], read: Callable[[S], T]) -> Iterator[tuple[Place, T]]:
    """As `each`, with where the row is."""
    kept, refused, first = False, 0, ""
    for place, row in rows:
        try:
            made = read(row)
        except Refused as reason:
            refused, first = refused + 1, first or f"{place}: {reason}"
            if counts := account():
                counts.refuse(place, str(reason))
            continue
        kept = True
        yield place, made
    if refused and not kept:
        raise UserError(f"none of {refused:,} rows can be used; {first}")


def text_of(value: Any, column: str) -> str:
    """The text of a cell. Raises Refused where it has none, or something else."""
    text = written(value, column)
    if not text.strip():
        raise Refused(f"no {column}")
    return text


def written(value: Any, column: str) -> str:
    """The text of a cell, empty where there is none. Raises Refused where it cannot be one."""
    if isinstance(value, list | dict):
        raise Refused(f"{column} holds a {'list' if isinstance(value, list) else 'structure'}, not text")
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
        text.encode()
    except UnicodeDecodeError:
        raise Refused(f"{column} is not UTF-8") from None
    except UnicodeEncodeError:
        raise Refused(f"{column} has half of a character (a lone surrogate)") from None
    return text
