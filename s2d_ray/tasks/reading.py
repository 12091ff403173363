"""Rows of a data set: from files here or in object storage, or by its name on the hub."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa

from s2d_ray.data.files import parquet_file
from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath, filesystem, location
from s2d_ray.errors import UserError
from s2d_ray.tasks.refusals import Place, Placed, account

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
SIDE_FILES = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
"""What tools write about a data set beside it."""
HEAD_ROWS = 1000
"""Of a JSON file, whose keys name the columns: a row may leave one out."""
# Arrow's errors, the disk's, those of the csv module, and of text that is not UTF-8 or not JSON, or is too deep.
UNREADABLE = (pa.ArrowException, OSError, ValueError, csv.Error, RecursionError)


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
                raise UserError(f"{source} has no column {column}; it has {', '.join(names)}")
        return list(dict.fromkeys([*found, *(column for column in self.beside if column in names)]))


ALL = Columns()


def load_rows(name: str, config: str | None = None, split: str = "train", revision: str | None = None) -> Iterator[Row]:
    """The rows of a file, of a folder of files of one format, or of a data set on the hub.

    Raises UserError, on the way, where there is no such data, it cannot be read, or it has no rows.
    """
    return (row for _, row in placed_rows(name, config, split, revision))


def placed_rows(
    name: str,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    columns: Columns = ALL,
) -> Iterator[Placed]:
    """As `load_rows`, each row with where it is, and only some columns of it where named."""
    rows = file_rows(location(name), columns) if is_local(name) else _hub_rows(name, config, split, revision, columns)
    number = 0
    for number, placed in enumerate(rows, start=1):  # noqa: B007 # How many there were.
        yield placed
    if counts := account():
        counts.has_read(f"{name} {config} {split} {revision}", number)


def is_local(name: str) -> bool:
    """Whether this is a file or folder here or in object storage; else it is a name on the hub."""
    path = location(name)
    return name.startswith((".", "/", "~")) or "://" in name or bool(_format(path)) or path.exists()


def cell(row: Row, column: str) -> Any:
    """What a row has in a column, or in `column.key.key`; None where there is nothing."""
    if column in row:
        return row[column]
    value: Any = row
    for key in column.split("."):
        value = parsed(value)
        value = value.get(key) if isinstance(value, dict) else None
    return value


def parsed(value: Any) -> Any:
    """What a text says that is a JSON list or object; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def file_rows(path: Path, columns: Columns = ALL) -> Iterator[Placed]:
    """Every row of a file, or of a folder of files of one format, with where it is.

    Of CSV and Parquet only the named columns are read. In CSV all is text as it is written, and an empty value is None.
    Hidden files and folders (`.` or `_` before the name), and what tools write beside data, are left out of a folder.
    Raises UserError, on the way, where a file is missing, cannot be read or lacks a column, or there are no rows.
    """
    empty = True
    for file in _files(path.expanduser()):
        kind = _format(file)
        try:
            for placed in READERS[kind](file, columns):
                empty = False
                yield placed
        except UNREADABLE as error:
            raise UserError(f"{file} cannot be read as {kind}: {_first_line(error)}") from error
    if empty:
        raise UserError(f"{path} has no rows")


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _is_data(file, path))
    if not any(map(_format, files)):
        raise UserError(
            f"{path} is no file that ends in {', '.join(FORMATS)}, plain or {' or '.join(PACKED)}, nor a folder of them"
        )
    if len(set(map(_format, files))) > 1:
        raise UserError(f"{path} mixes formats: point to files of one of them")
    return files


def _is_data(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    # In object storage only files are listed.
    is_file = isinstance(file, RemotePath) or file.is_file()
    return not hidden and is_file and file.name not in SIDE_FILES and bool(_format(file))


def _suffix(file: Path) -> str:
    return (file.with_suffix("") if file.suffix in PACKED else file).suffix


def _format(file: Path) -> str:
    return FORMATS.get(_suffix(file), "")


def _json_rows(file: Path, columns: Columns) -> Iterator[Placed]:
    with TextIOWrapper(_opened(file), encoding="utf-8-sig") as text:
        rows = _json_objects(text, str(file))
        head = list(islice(rows, HEAD_ROWS))
        blank = dict.fromkeys(name for _, row in head for name in row)
        if head:
            columns.chosen(blank, str(file))
        yield from ((place, blank | row) for place, row in chain(head, rows))


def _json_objects(text: TextIO, file: str) -> Iterator[Placed]:
    """An object a line, or one array of objects."""
    for number, line in enumerate(text, start=1):
        if line.lstrip().startswith("["):
            rows = enumerate(json.loads(line + text.read()), start=1)
            yield from ((Place(file, row), _object(value, number)) for row, value in rows)
        elif line.strip():
            yield Place(file, number, "line"), _object(_json_value(line, number), number)


def _object(value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"line {number} holds something else than objects")
    return value


def _json_value(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON: {error.msg} at character {error.pos + 1}") from error


def _csv_rows(file: Path, columns: Columns) -> Iterator[Placed]:
    # A text may be longer than the module takes by itself.
    csv.field_size_limit(2**31 - 1)
    with TextIOWrapper(_opened(file), encoding="utf-8-sig", newline="") as text:
        lines = csv.reader(text, delimiter="\t" if _suffix(file) == ".tsv" else ",", strict=True)
        names = next(lines, [])
        chosen = columns.chosen(names, str(file)) if names else []
        places = [(name, names.index(name)) for name in chosen or names]
        before = lines.line_num
        for values in lines:
            if values:
                _require_width(values, names, before + 1)
                yield Place(str(file), before + 1, "line"), {name: values[place] or None for name, place in places}
            before = lines.line_num


def _require_width(values: Sequence[str], names: Sequence[str], line: int) -> None:
    if len(values) != len(names):
        raise ValueError(f"line {line} has {len(values)} values, and the header {len(names)}")


def _parquet_rows(file: Path, columns: Columns) -> Iterator[Placed]:
    with parquet_file(file) as table:
        if not table.metadata.num_rows:
            return
        chosen = columns.chosen(table.schema_arrow.names, str(file))
        batches = table.iter_batches(columns=chosen or None)
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from ((Place(str(file), number), row) for number, row in enumerate(rows, start=1))


READERS: Mapping[str, Callable[[Path, Columns], Iterator[Placed]]] = {
    "json": _json_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
}


def _opened(file: Path) -> Any:
    """The file as a stream, unpacked where its name ends so."""
    system, name = filesystem(file)
    return system.open_input_stream(name)


def _hub_rows(name: str, config: str | None, split: str, revision: str | None, columns: Columns) -> Iterator[Placed]:
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
    if chosen := columns.chosen(rows.column_names, name):
        rows = rows.select_columns(chosen)
    yield from ((Place(name, number), dict(row)) for number, row in enumerate(rows, start=1))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
