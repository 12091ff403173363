"""Your own prompts, from a Parquet, JSONL or CSV file (or a folder of them).

Without a reference column evaluation reports how often the distilled model answers as System 2 does.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as pads
from pydantic import Field, model_validator

from s2d_ray.errors import UserError
from s2d_ray.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.tasks.normalisation import NORMALISATIONS
from s2d_ray.tasks.task import Split, Task

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv"}


class Prompts(Task):
    """Prompts from a file, one a row."""

    path: Path
    """A .parquet, .jsonl or .csv file, or a folder of files of one of these kinds."""
    text_column: str = "prompt"
    """Column with the prompt's text."""
    id_column: str | None = None
    """Column with a unique id; without one, ids are hashes of the text and repeated prompts are merged."""
    reference_column: str | None = None
    """Column with the right answer, or a list of right answers; used by evaluation only."""
    test_path: Path | None = None
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
        """Rows of the file. Raises UserError where it is missing, empty, unreadable, or lacks a column."""
        if self.test_path is not None:
            yield from self._read(self.test_path if split == "test" else self.path)
            return
        for item in self._read(self.path):
            if self._held_out(item.prompt.prompt_id, seed) == (split == "test"):
                yield item

    def _held_out(self, prompt_id: str, seed: int) -> bool:
        return int(content_id(str(seed), "held out", prompt_id)[:8], 16) / 16**8 < self.test_share

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The whole text, or the last place in it that `answer_pattern` matches.

        All of the match, not only its group: a model trained on it gives answers that are read the same way.
        """
        if self.answer_pattern is None:
            return text.strip() or None
        matches = [match.group().strip() for match in re.finditer(self.answer_pattern, text)]
        return next((match for match in reversed(matches) if match), None)

    def key(self, answer: str) -> str:
        match = re.search(self.answer_pattern, answer) if self.answer_pattern else None
        inner = match.group(1) if match and match.re.groups else answer
        return NORMALISATIONS[self.normalisation](inner)

    def _read(self, path: Path) -> Iterator[LabelledPrompt]:
        dataset = _open(path)
        for column in filter(None, (self.text_column, self.id_column, self.reference_column)):
            if column not in dataset.schema.names:
                raise UserError(f"{path} has no column {column}; it has {', '.join(dataset.schema.names)}")
        seen: set[str] = set()
        try:
            for batch in dataset.to_batches():
                for row in batch.to_pylist():
                    item = self._item(row)
                    if item.prompt.prompt_id not in seen:
                        seen.add(item.prompt.prompt_id)
                        yield item
                    elif self.id_column is not None:
                        raise UserError(
                            f"{path}: {self.id_column} {item.prompt.prompt_id} occurs more than once; make ids unique"
                        )
        except pa.ArrowInvalid as error:
            raise UserError(f"{path} cannot be read: {_first_line(error)}") from error
        if not seen:
            raise UserError(f"{path} has no rows")

    def _item(self, row: dict[str, Any]) -> LabelledPrompt:
        value = row[self.text_column]
        text = "" if value is None else str(value)
        if self.id_column is None:
            prompt_id = content_id(text)
        elif row[self.id_column] is None:
            raise UserError(
                f"{self.path}: a row has no {self.id_column}; every row needs one, or leave id_column unset"
            )
        else:
            prompt_id = str(row[self.id_column])
        reference = row[self.reference_column] if self.reference_column else None
        references = (
            []
            if reference is None
            else [str(r) for r in reference]
            if isinstance(reference, list)
            else [str(reference)]
        )
        return LabelledPrompt(Prompt(prompt_id, [user(text)]), references, "all")


def _open(path: Path) -> pads.Dataset:
    if not path.exists():
        raise UserError(f"no file or folder {path}")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in FORMATS)
    kinds = {FORMATS.get(f.suffix) for f in files}
    if len(kinds) != 1 or None in kinds:
        raise UserError(f"{path} is not a .parquet, .jsonl or .csv file, or a folder of one of these kinds")
    [kind] = kinds
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    try:
        if kind == "csv":
            # Quoted prompts hold line breaks.
            parse = pa.csv.ParseOptions(newlines_in_values=True)
            return pads.dataset(files, format=pads.CsvFileFormat(parse_options=parse))
        return pads.dataset(files, format=kind)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read as {kind}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
