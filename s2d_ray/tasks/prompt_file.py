"""Your own prompts, from a JSON, CSV or Parquet file (or a folder of them).

Without a reference column evaluation reports how often the distilled model answers as System 2 does.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from s2d_ray.answers.normalisation import NORMALISATIONS
from s2d_ray.data.records import LabelledPrompt, Prompt, Row, content_id, user
from s2d_ray.data.storage import Location
from s2d_ray.errors import UserError
from s2d_ray.tasks.deduplication import SeenIds
from s2d_ray.tasks.reading import file_rows
from s2d_ray.tasks.task import Split, Task

PLACES: tuple[Split, ...] = ("test", "valid", "train")


class PromptFile(Task):
    """Prompts from a file, one a row."""

    path: Location
    """A .jsonl, .json, .csv (each plain or .gz) or .parquet file, or a folder of files of one of these formats, here or
    at `s3://…`, `gs://…` or `az://…`."""
    text_column: str = "prompt"
    """Column with the prompt's text."""
    id_column: str | None = None
    """Column with a unique id; without one, ids are hashes of the text and repeated prompts are merged. With one, rows
    of the same text are one group."""
    group_column: str | None = Field(None, exclude_if=lambda column: column is None)
    """Column with what a prompt is about (a person, a conversation, a document): prompts of one group are in the same
    split, and intervals count groups. A row with an empty value is in no group."""
    reference_column: str | None = None
    """Column with the right answer, or a list of right answers; used by evaluation only."""
    test_path: Location | None = None
    """Held-out prompts of the same layout, whose groups and texts are left out of `path`; without it `test_share` of
    `path` is held out."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of the prompts held out, chosen by group or, without one, by text."""
    valid_share: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts of `path` held out to decide whether a further round is run; more than 0 where `rounds`
    is."""
    normalisation: Literal["exact", "caseless", "words", "number", "json"] = "words"
    """When two answers count as equal (see `s2d_ray/answers/normalisation.py`)."""
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
        empty = True
        for item in self._of_own_file(split, seed) if self.test_path else self._of_share(split, seed):
            empty = False
            yield item
        if empty and split == "valid":
            return
        if empty and self.test_path:
            raise UserError(f"{self.path} leaves no {split} prompts: all of them, or their groups, are in test_path")
        if empty:
            raise UserError(
                f"{self.path} leaves no {split} prompts with test_share {self.test_share}: set test_path to a file "
                "of test prompts, or another test_share"
            )

    def _of_own_file(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """With `test_path`: what it holds, or what only `path` does."""
        held_out = self._read(self.test_path or self.path)
        if split == "test":
            return held_out
        apart = {one for item in held_out for one in _about(item)}
        return (item for item in self._of_share(split, seed, test_share=0.0) if apart.isdisjoint(_about(item)))

    def _of_share(self, split: Split, seed: int, test_share: float | None = None) -> Iterator[LabelledPrompt]:
        """A split of `path`; a text that several groups hold is left out of all but the first split that has it."""
        share = self.test_share if test_share is None else test_share
        own, before = PLACES.index(split), set[str]()
        if self.group_column and own:
            items = self._read(self.path)
            before = {content_id(item.prompt.text) for item in items if self._place(item, seed, share) < own}
        for item in self._read(self.path):
            if self._place(item, seed, share) == own and (not before or content_id(item.prompt.text) not in before):
                yield item

    def _place(self, item: LabelledPrompt, seed: int, test_share: float) -> int:
        """The index in `PLACES` of the split that an item falls into."""
        place = int(content_id(str(seed), "held out", item.unit)[:8], 16) / 16**8
        return 0 if place < test_share else 1 if place < test_share + self.valid_share else 2

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The whole text, or the last place in it that `answer_pattern` matches.

        All of the match, not only its group: a model trained on it gives answers that are read the same way.
        """
        if self.answer_pattern is None:
            return text.strip() or None
        return self._last_match(text)

    def parse_cut(self, text: str, prompt: Prompt) -> str | None:
        """The last match that ended before the text was cut; without `answer_pattern` a cut text is no answer.

        More text would not have made it another match: it is the same with a word and with a digit after it.
        """
        if self.answer_pattern is None:
            return None
        found = {self._last_match(text + more, len(text)) for more in ("", "x", "0")}
        return found.pop() if len(found) == 1 else None

    def key(self, answer: str) -> str:
        matches = self._matches(answer)
        return NORMALISATIONS[self.normalisation](_inner(matches[-1]) if matches else answer)

    def _last_match(self, text: str, end: int | None = None) -> str | None:
        """The last place that `answer_pattern` matches, ending no later than `end`."""
        found = [match for match in self._matches(text) if end is None or match.end() <= end]
        return found[-1].group().strip() if found else None

    def _matches(self, text: str) -> list[re.Match[str]]:
        """The places that `answer_pattern` matches with an answer in them; an empty group is none."""
        matches = re.finditer(self.answer_pattern, text) if self.answer_pattern else ()
        return [match for match in matches if _inner(match)]

    def _read(self, path: Path) -> Iterator[LabelledPrompt]:
        named = (self.text_column, self.id_column, self.group_column, self.reference_column)
        columns = list(dict.fromkeys(filter(None, named)))
        with closing(SeenIds()) as seen:
            for file, row in file_rows(path, columns):
                item = self._item(row, file)
                if seen.add(item.prompt.prompt_id):
                    yield item
                elif self.id_column is not None:
                    raise UserError(
                        f"{file}: {self.id_column} {item.prompt.prompt_id} occurs more than once; make ids unique"
                    )

    def _item(self, row: Row, file: Path) -> LabelledPrompt:
        text = _written(row[self.text_column], self.text_column, file)
        prompt_id = content_id(text)
        if self.id_column is not None:
            prompt_id = _written(row[self.id_column], self.id_column, file)
            if not prompt_id:
                raise UserError(f"{file}: a row has no {self.id_column}; every row needs one, or leave id_column unset")
        reference = row[self.reference_column] if self.reference_column else None
        several = reference if isinstance(reference, list) else [reference]
        references = [str(one) for one in several if one not in (None, "")]
        group = _written(row[self.group_column], self.group_column, file) if self.group_column else ""
        # Rows with ids of their own may repeat a text: it must not be trained on and tested.
        about = group or (content_id(text) if self.id_column else "")
        return LabelledPrompt(Prompt(prompt_id, [user(text)]), references, "all", cluster=about)


def _about(item: LabelledPrompt) -> set[str]:
    """What must not be in both of two files: the group and the text, since ids may be numbered anew in each."""
    return {content_id(item.prompt.text), *([content_id("group", item.cluster)] if item.cluster else [])}


def _inner(match: re.Match[str]) -> str:
    """What is compared: the first group, or the whole match where there is none or it took no part."""
    group = match.group(1) if match.re.groups else None
    return (match.group() if group is None else group).strip()


def _written(value: object, column: str, file: Path) -> str:
    if isinstance(value, list | dict):
        raise UserError(f"{file}: column {column} holds {type(value).__name__}s, not text; name a column of texts")
    return "" if value is None else str(value)
