"""Rows of a data set: from files here or in object storage, or by its name on the hub."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.csv as pacsv

from s2d_ray.data.files import parquet_file
from s2d_ray.data.records import Row
from s2d_ray.data.storage import filesystem, location
from s2d_ray.errors import UserError

FORMATS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
HEAD_ROWS = 1000
"""Of a JSON file, whose keys name the columns: a row may leave one out."""
# Arrow's errors, the disk's, and those of text that is not UTF-8 or not JSON.
UNREADABLE = (pa.ArrowException, OSError, ValueError)


def load_rows(name: str, config: str | None = None, split: str = "train", revision: str | None = None) -> Iterator[Row]:
    """The rows of a file, of a folder of files of one format, or of a data set on the hub.

    Raises UserError, on the way, where there is no such data, it cannot be read, or it has no rows.
    """
    path = location(name)
    if name.startswith((".", "/", "~")) or "://" in name or _format(path) or path.exists():
        return (row for _, row in file_rows(path))
    return _hub_rows(name, config, split, revision)


def file_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[Path, Row]]:
    """Every row of a file, or of a folder of files of one format, with the file that it is in.

    `columns` must be there. Of CSV and Parquet only these are read, where given, and in CSV as text as it is written;
    an empty value is None.
    Raises UserError, on the way, where a file is missing, cannot be read or lacks a column, or there are no rows.
    """
    empty = True
    for file in _files(path.expanduser()):
        kind = _format(file)
        try:
            for row in READERS[kind](file, columns):
                empty = False
                yield file, row
        except UNREADABLE as error:
            raise UserError(f"{file} cannot be read as {kind}: {_first_line(error)}") from error
    if empty:
        raise UserError(f"{path} has no rows")


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _format(file))
    if not any(map(_format, files)):
        raise UserError(f"{path} is no file that ends in {', '.join(FORMATS)}, plain or .gz, nor a folder of them")
    if len(set(map(_format, files))) > 1:
        raise UserError(f"{path} mixes formats: point to files of one of them")
    return files


def _format(file: Path) -> str:
    return FORMATS.get(Path(file.name.removesuffix(".gz")).suffix, "")


def _json_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    with TextIOWrapper(_opened(file), encoding="utf-8-sig") as text:
        rows = _json_objects(text)
        head = list(islice(rows, HEAD_ROWS))
        blank = dict.fromkeys(name for row in head for name in row)
        if head:
            _require(columns, blank, file)
        yield from (blank | row for row in chain(head, rows))


def _json_objects(text: TextIO) -> Iterator[Row]:
    """An object a line, or one array of objects."""
    for number, line in enumerate(text, start=1):
        if line.lstrip().startswith("["):
            rows = json.loads(line + text.read())
        elif line.strip():
            rows = [_json_value(line, number)]
        else:
            continue
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"line {number} holds something else than objects")
            yield row


def _json_value(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON: {error.msg} at character {error.pos + 1}") from error


def _csv_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    # Quoted texts hold line breaks.
    parse = pacsv.ParseOptions(newlines_in_values=True)
    if columns:
        with _opened(file) as stream, pacsv.open_csv(stream, parse_options=parse) as table:
            _require(columns, table.schema.names, file)
    # An id 001 is not 1, and NA is a word.
    text = dict.fromkeys(columns, pa.string())
    convert = pacsv.ConvertOptions(
        include_columns=list(columns), column_types=text, null_values=[""], strings_can_be_null=True
    )
    with _opened(file) as stream, pacsv.open_csv(stream, parse_options=parse, convert_options=convert) as table:
        for batch in table:
            yield from batch.to_pylist()


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    with parquet_file(file) as table:
        _require(columns, table.schema_arrow.names, file)
        for batch in table.iter_batches(columns=list(columns) or None):
            yield from batch.to_pylist()


READERS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {
    "json": _json_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
}


def _opened(file: Path) -> Any:
    """The file as a stream, unpacked where its name ends in .gz."""
    system, name = filesystem(file)
    return system.open_input_stream(name)


def _require(columns: Sequence[str], names: Collection[str], file: Path) -> None:
    for column in columns:
        if column not in names:
            raise UserError(f"{file} has no column {column}; it has {', '.join(names)}")


def _hub_rows(name: str, config: str | None, split: str, revision: str | None) -> Iterator[Row]:
    # Imported here: it takes seconds, and most commands read no data.
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=revision)
    except (DatasetsError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        raise UserError(f"{name} is neither a file here nor to be had from the hub ({reason})") from error
    if not len(rows):
        raise UserError(f"{name} has no rows")
    yield from map(dict, rows)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
