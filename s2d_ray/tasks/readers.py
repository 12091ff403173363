"""The rows of a file in each format: one after the other, those that are none with the reason in their place."""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa

from s2d_ray.data.files import parquet_file
from s2d_ray.data.records import Row
from s2d_ray.data.storage import filesystem
from s2d_ray.errors import UserError
from s2d_ray.tasks.refusals import Place, Refused

FORMATS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
PACKED = (".gz", ".zst")
"""Endings behind these, of what pyarrow unpacks by its name."""
HEAD_ROWS = 1000
"""Of a JSON file, whose keys name the columns: a row may leave one out."""
KEEP = "surrogateescape"
"""What is no UTF-8 is read all the same, so that it costs its line alone."""
Read = tuple[Place, Row | Refused]


class Columns(NamedTuple):
    """What is read of each row; without any names, all of it."""

    needed: Sequence[str] = ()
    """Must be there: a column, or `column.key.key` in what it holds."""
    beside: Sequence[str] = ()
    """Read too where they are there."""

    def chosen(self, names: Collection[str], source: str) -> list[str]:
        """The columns to read, of those of that `names`. Raises UserError where one is missing."""
        found = [column if column in names else column.partition(".")[0] for column in self.needed]
        for column, name in zip(self.needed, found, strict=True):
            if name not in names:
                raise UserError(f"{source} has no column {column}; it has {_shown(names)}")
        return list(dict.fromkeys([*found, *(column for column in self.beside if column in names)]))


def _shown(names: Iterable[str]) -> str:
    # What is no text of its own could not be printed.
    return ", ".join(names).encode(errors="backslashreplace").decode()


ALL = Columns()


def suffix_of(file: Path) -> str:
    """How a file's name ends, but for what says how it is packed."""
    return (file.with_suffix("") if file.suffix in PACKED else file).suffix


def _json_rows(file: Path, columns: Columns) -> Iterator[Read]:
    with TextIOWrapper(_opened(file), encoding="utf-8-sig", errors=KEEP) as text:
        rows = _json_objects(text, str(file))
        head = list(islice(rows, HEAD_ROWS))
        blank = dict.fromkeys(name for _, row in head if isinstance(row, dict) for name in row)
        if blank:
            columns.chosen(blank, str(file))
        for place, row in chain(head, rows):
            yield place, blank | row if isinstance(row, dict) else row


def _json_objects(text: TextIO, file: str) -> Iterator[Read]:
    """An object a line, or one array of objects."""
    # A byte-order mark within: of a file that was put together of several.
    lines = ((number, line.removeprefix("\ufeff")) for number, line in enumerate(text, start=1))
    lines = ((number, line) for number, line in lines if line.strip())
    first = list(islice(lines, 2))
    if first and first[0][1].lstrip().startswith("[") and not (len(first) > 1 and _is_json(first[0][1])):
        values = json.loads(_in_utf8(_in_place(first) + text.read()))
        yield from ((Place(file, row), _object(value)) for row, value in enumerate(values, start=1))
        return
    for number, line in chain(first, lines):
        yield Place(file, number, "line"), _json_row(line)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _in_place(lines: Iterable[tuple[int, str]]) -> str:
    """The beginning of a file that has these lines, and blank ones before and between, so that errors name the line."""
    text = ""
    for number, line in lines:
        text += "\n" * (number - 1 - text.count("\n")) + line
    return text


def _json_row(line: str) -> Row | Refused:
    try:
        return _object(json.loads(_in_utf8(line)))
    except json.JSONDecodeError as error:
        return Refused(f"no JSON: {error.msg} at character {error.pos + 1}")
    except UnicodeEncodeError:
        return Refused("not UTF-8")
    except RecursionError:
        return Refused("nested too deep")
    except ValueError as error:  # A number of too many digits.
        return Refused(f"no JSON: {first_line(error)}")


def _object(value: Any) -> Row | Refused:
    return value if isinstance(value, dict) else Refused("something else than an object")


def _in_utf8(text: str) -> str:
    """The text. Raises UnicodeEncodeError where the file has something else."""
    text.encode()
    return text


def _csv_rows(file: Path, columns: Columns) -> Iterator[Read]:
    # A text may be longer than the module takes by itself.
    csv.field_size_limit(2**31 - 1)
    with TextIOWrapper(_opened(file), encoding="utf-8-sig", errors=KEEP, newline="") as text:
        lines = csv.reader(text, delimiter="\t" if suffix_of(file) == ".tsv" else ",", strict=True)
        names = next(lines, [])
        chosen = columns.chosen(names, str(file)) if names else []
        places = [(name, names.index(name)) for name in chosen or names]
        for line, values in _csv_values(lines, len(names)):
            if values:
                yield Place(str(file), line, "line"), _csv_row(values, places)


def _csv_row(values: Sequence[str] | Refused, places: Sequence[tuple[str, int]]) -> Row | Refused:
    if isinstance(values, Refused):
        return values
    try:
        _in_utf8("".join(values))
    except UnicodeEncodeError:
        return Refused("not UTF-8")
    return {name: values[place] or None for name, place in places}


def _csv_values(lines: Any, width: int) -> Iterator[tuple[int, Sequence[str] | Refused]]:
    """Each row's values with the line in which it begins."""
    while True:
        before, why = lines.line_num, ""
        try:
            values = next(lines, None)
        except csv.Error as error:
            values, why = [], f"no row: {error}"
        if values is None:
            return
        if values and len(values) != width:
            why = f"not as many values as the header: {len(values)}, and the header {width}"
        if why and lines.line_num > before + 1:
            # A quote was left open: what follows may be rows of which it made one text.
            raise ValueError(f"line {before + 1} begins a row that is none: {why}")
        yield before + 1, Refused(why) if why else values


def _parquet_rows(file: Path, columns: Columns) -> Iterator[Read]:
    with parquet_file(file) as table:
        if not table.metadata.num_rows:
            return
        chosen = columns.chosen(table.schema_arrow.names, str(file))
        batches = table.iter_batches(columns=chosen or None)
        rows = chain.from_iterable(map(_of_batch, batches))
        yield from ((Place(str(file), number), row) for number, row in enumerate(rows, start=1))


def _of_batch(batch: pa.RecordBatch) -> Sequence[Row | Refused]:
    try:
        rows: Sequence[Row | Refused] = batch.to_pylist()
    except (ValueError, OverflowError):
        return [_parquet_row(batch.slice(place, 1)) for place in range(batch.num_rows)]
    return rows


def _parquet_row(batch: pa.RecordBatch) -> Row | Refused:
    try:
        row: Row = batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Refused("not UTF-8")
    except (ValueError, OverflowError) as error:  # A time that Python cannot tell.
        return Refused(f"a value that cannot be read: {first_line(error)}")
    return row


READERS: Mapping[str, Callable[[Path, Columns], Iterator[Read]]] = {
    "json": _json_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
}


def _opened(file: Path) -> Any:
    """The file as a stream, unpacked where its name ends so."""
    system, name = filesystem(file)
    return system.open_input_stream(name)


def first_line(error: Exception) -> str:
    """What an error says, without what other libraries put below."""
    return str(error).partition("\n")[0]
