"""Your own prompts, from a Parquet, JSONL or CSV file (or a folder of them).

Without a reference column evaluation reports how often the distilled model answers as System 2 does.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as pads
from pydantic import Field, model_validator

from s2d_ray.data.records import LabelledPrompt, Prompt, Row, content_id, user
from s2d_ray.data.storage import Location, filesystem
from s2d_ray.errors import UserError
from s2d_ray.tasks.distinct import Seen
from s2d_ray.tasks.normalisation import NORMALISATIONS
from s2d_ray.tasks.task import Split, Task

# Arrow's errors for what is not of the format, of the disk and of damaged Parquet, and for text that is not UTF-8.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
FORMATS = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv"}


class Prompts(Task):
    """Prompts from a file, one a row."""

    path: Location
    """A .parquet, .jsonl or .csv file, or a folder of files of one of these kinds, here or at `s3://…` or `gs://…`."""
    text_column: str = "prompt"
    """Column with the prompt's text."""
    id_column: str | None = None
    """Column with a unique id; without one, ids are hashes of the text and repeated prompts are merged."""
    reference_column: str | None = None
    """Column with the right answer, or a list of right answers; used by evaluation only."""
    test_path: Location | None = None
    """Held-out prompts of the same layout; without it `test_share` of `path` is held out."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of the prompts held out, chosen by id."""
    normalisation: Literal["exact", "caseless", "words", "number"] = "words"
    """When two answers count as equal (see `s2d_ray/tasks/normalisation.py`)."""
    answer_pattern: str | None = None
    """Regular expression of the answer in a text, such as `Answer: (.*)`; its first group, if it has one, is
    what is compared. Unset takes the whole text."""
    licence: str = "as given by the owner of the file"
    """Licence of the prompts, for the data card."""

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.answer_pattern is not None:
            try:
                re.compile(self.answer_pattern)
            except re.error as error:
                raise ValueError(f"answer_pattern is no regular expression: {error}") from error
        return self

    @property
    def source(self) -> str:
        return f"{self.path.name}; licence: {self.licence}"

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """Rows of the file.

        Raises UserError where the file is missing, empty, unreadable, lacks a column, or leaves the split without
        a prompt.
        """
        if self.test_path is not None:
            yield from self._read(self.test_path if split == "test" else self.path)
            return
        empty = True
        for item in self._read(self.path):
            if self._held_out(item.prompt.prompt_id, seed) == (split == "test"):
                empty = False
                yield item
        if empty:
            raise UserError(
                f"{self.path} leaves no {split} prompts with test_share {self.test_share}: set test_path to a file "
                "of test prompts, or another test_share"
            )

    def _held_out(self, prompt_id: str, seed: int) -> bool:
        return int(content_id(str(seed), "held out", prompt_id)[:8], 16) / 16**8 < self.test_share

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The whole text, or the last place in it that `answer_pattern` matches.

        All of the match, not only its group: a model trained on it gives answers that are read the same way.
        """
        if self.answer_pattern is None:
            return text.strip() or None
        match = self._last_match(text)
        return match.group().strip() if match else None

    def key(self, answer: str) -> str:
        match = self._last_match(answer)
        return NORMALISATIONS[self.normalisation](_inner(match) if match else answer)

    def _last_match(self, text: str) -> re.Match[str] | None:
        """The last place that `answer_pattern` matches with an answer in it; an empty group is none."""
        matches = re.finditer(self.answer_pattern, text) if self.answer_pattern else ()
        return next((match for match in reversed(list(matches)) if _inner(match)), None)

    def _read(self, path: Path) -> Iterator[LabelledPrompt]:
        columns = list(dict.fromkeys(filter(None, (self.text_column, self.id_column, self.reference_column))))
        empty = True
        with closing(Seen()) as seen:
            for file, row in _rows(_open(path, columns), columns):
                item, empty = self._item(row, file), False
                if seen.add(item.prompt.prompt_id):
                    yield item
                elif self.id_column is not None:
                    raise UserError(
                        f"{file}: {self.id_column} {item.prompt.prompt_id} occurs more than once; make ids unique"
                    )
        if empty:
            raise UserError(f"{path} has no rows")

    def _item(self, row: Row, file: str) -> LabelledPrompt:
        text = _written(row[self.text_column], self.text_column, file)
        prompt_id = content_id(text)
        if self.id_column is not None:
            prompt_id = _written(row[self.id_column], self.id_column, file)
            if not prompt_id:
                raise UserError(f"{file}: a row has no {self.id_column}; every row needs one, or leave id_column unset")
        reference = row[self.reference_column] if self.reference_column else None
        several = reference if isinstance(reference, list) else [reference]
        references = [str(one) for one in several if one not in (None, "")]
        return LabelledPrompt(Prompt(prompt_id, [user(text)]), references, "all")


def _inner(match: re.Match[str]) -> str:
    """What is compared: the first group, or the whole match where there is none or it took no part."""
    group = match.group(1) if match.re.groups else None
    return (match.group() if group is None else group).strip()


def _written(value: object, column: str, file: str) -> str:
    if isinstance(value, list | dict):
        raise UserError(f"{file}: column {column} holds {type(value).__name__}s, not text; name a column of texts")
    return "" if value is None else str(value)


def _rows(dataset: pads.Dataset, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Every row with the file that it is in."""
    for fragment in dataset.get_fragments():
        try:
            for batch in fragment.to_batches(schema=dataset.schema, columns=columns):
                for row in batch.to_pylist():
                    yield fragment.path, row
        except UNREADABLE as error:
            raise UserError(f"{fragment.path} cannot be read: {_first_line(error)}") from error


def _open(path: Path, columns: Sequence[str]) -> pads.Dataset:
    """The files at `path`. Raises UserError where they are missing, unreadable or lack one of the columns."""
    kind, files = _files(path)
    system, _ = filesystem(path)
    try:
        # Quoted prompts hold line breaks; an id 001 is not 1, and NA is a word.
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)
        csv = pads.CsvFileFormat(parse_options=parse, convert_options=convert)
        dataset = pads.dataset(files, format=csv if kind == "csv" else kind, filesystem=system)
        names = dataset.schema.names
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as {kind}: {_first_line(error)}") from error
    for column in columns:
        if column not in names:
            raise UserError(f"{path} has no column {column}; it has {', '.join(names)}")
    if kind != "json":
        return dataset
    fields = [dataset.schema.field(column) for column in columns]
    schema = pa.schema([f.with_type(_as_written(f.type)) for f in fields])
    return pads.dataset(files, format=kind, filesystem=system, schema=schema)


def _files(path: Path) -> tuple[str, Sequence[str]]:
    """The one format of the files at `path`, and the files."""
    system, name = filesystem(path)
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in FORMATS)
    kinds = {FORMATS.get(f.suffix, "") for f in files}
    if len(kinds) != 1 or "" in kinds:
        raise UserError(f"{path} is not a .parquet, .jsonl or .csv file, or a folder of one of these kinds")
    if path.is_file() and system.get_file_info(name).size == 0:
        raise UserError(f"{path} is empty")
    return kinds.pop(), [filesystem(file)[1] for file in files]


def _as_written(kind: pa.DataType) -> pa.DataType:
    """The type that keeps a JSON text as it is, where Arrow would read a date."""
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    return pa.string() if pa.types.is_timestamp(kind) or pa.types.is_null(kind) else kind


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
