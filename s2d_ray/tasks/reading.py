"""Rows of a data set: from files here or in object storage, or by its name on the hub."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_ray.data.records import Row
from s2d_ray.data.storage import RemotePath, location
from s2d_ray.errors import UserError
from s2d_ray.tasks.readers import ALL, FORMATS, PACKED, READERS, Columns, first_line, suffix_of
from s2d_ray.tasks.refusals import BadRows, Place, Placed, Refused, account

SIDE_FILES = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
"""What tools write about a data set beside it."""
MAX_BAD_LINES = 100
"""Of a file or folder, unless the task says otherwise: far more than a log has by accident, and few enough to notice a
file of another kind or encoding at its beginning."""
# Arrow's errors, the disk's, those of the csv module, and of text that is not UTF-8 or not JSON, or is too deep.
UNREADABLE = (pa.ArrowException, OSError, ValueError, csv.Error, RecursionError)


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
    max_bad_lines: int = MAX_BAD_LINES,
) -> Iterator[Placed]:
    """As `load_rows`, each row with where it is, and only some columns of it where named.

    Lines of a file that are no rows are refused, up to `max_bad_lines`.
    """
    bad, number = BadRows(max_bad_lines), 0
    local = is_local(name)
    rows = file_rows(location(name), columns, bad) if local else _hub_rows(name, config, split, revision, columns)
    for number, placed in enumerate(rows, start=1):  # noqa: B007 # How many there were.
        yield placed
    if counts := account():
        counts.has_read(f"{name} {config} {split} {revision}", number + bad.number)


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


def file_rows(path: Path, columns: Columns = ALL, bad: BadRows | None = None) -> Iterator[Placed]:
    """Every row of a file, or of a folder of files of one format, with where it is; `bad` is told what is none.

    Of CSV and Parquet only the named columns are read. In CSV all is text as it is written, and an empty value is None.
    Hidden files and folders (`.` or `_` before the name), and what tools write beside data, are left out of a folder.
    Raises UserError, on the way, where a file is missing, cannot be read or lacks a column, there are no rows, or too
    many bad ones.
    """
    bad = bad or BadRows(MAX_BAD_LINES)
    empty = True
    for file in _files(path.expanduser()):
        kind = _format(file)
        try:
            for place, row in READERS[kind](file, columns):
                if isinstance(row, Refused):
                    bad.refuse(place, str(row))
                    continue
                empty = False
                yield place, row
        except UNREADABLE as error:
            raise UserError(f"{file} cannot be read as {kind}: {first_line(error)}") from error
    if empty and bad.number:
        raise UserError(f"none of {bad.number:,} rows can be used; {bad.first}")
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


def _format(file: Path) -> str:
    return FORMATS.get(suffix_of(file), "")


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
