"""Your own prompts or conversations, from files or the hub.

Without a reference column evaluation reports how often the distilled model answers as System 2 does.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from s2d_ray.answers.normalisation import NORMALISATIONS
from s2d_ray.data.records import LabelledPrompt, Message, Prompt, Row, content_id, user
from s2d_ray.data.storage import NameOrLocation, location
from s2d_ray.errors import UserError
from s2d_ray.tasks.conversations import OFFERS, Conversations, conversation, ids
from s2d_ray.tasks.deduplication import SeenIds, alike
from s2d_ray.tasks.readers import Columns
from s2d_ray.tasks.reading import cell, is_local, parsed
from s2d_ray.tasks.refusals import Placed, Refused, each, each_placed, text_of, written
from s2d_ray.tasks.rows import PLACES, RowTask, left_out
from s2d_ray.tasks.task import Split

LATER = ("messages_column", "group_column", "config", "revision", "split", "test_split", "max_bad_lines")
"""Options that came when results had been made already: said only where they are set, so that those are known again."""


class PromptFile(RowTask):
    """Prompts, one a row."""

    path: NameOrLocation
    """A .jsonl, .json, .csv, .tsv (each plain, .gz or .zst) or .parquet file, or a folder of files of one of these
    formats, here or at `s3://…`, `gs://…` or `az://…`; or a name on the hub."""
    text_column: str = "prompt"
    """Column with the prompt's text."""
    messages_column: str | None = None
    """Column with a conversation, in place of `text_column`: turns as OpenAI's (`role`, `content`) or ShareGPT's
    (`from`, `value`). `body.messages` is the key `messages` of what the column `body` holds, as in a log of requests.
    The last turn by the user is asked, after all that came before it; what comes behind it is left out. Rows with
    tools, images or other parts are refused."""
    id_column: str | None = None
    """Column with a unique id; without one, ids are hashes of the text and repeated prompts are merged. With one, rows
    of the same text are one group."""
    group_column: str | None = None
    """Column with what a prompt is about (a person, a conversation, a document): prompts of one group are in the same
    split, and intervals count groups. A row with an empty value is in no group but that of its text; of a conversation,
    that of the rows that it goes on from or that go on from it."""
    reference_column: str | None = None
    """Column with the right answer, or a list of right answers; used by evaluation only. The `messages_column` again:
    what the assistant said to the last turn."""
    test_path: NameOrLocation | None = None
    """Held-out prompts of the same layout, whose groups and texts are left out of `path`; without it, and without
    `test_split`, `test_share` of `path` is held out."""
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
        if self.messages_column is not None and "text_column" in self.model_fields_set:
            raise ValueError("set text_column or messages_column, not both")
        if self.answer_pattern is not None:
            try:
                re.compile(self.answer_pattern)
            except re.error as error:
                raise ValueError(f"answer_pattern is no regular expression: {error}") from error
        return self

    @model_serializer(mode="wrap")
    def _known_again(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in LATER}
        said = {key: value for key, value in dump(self).items() if key not in LATER or value != defaults[key]}
        paths = {key: str(location(said[key])) for key in ("path", "test_path") if said.get(key)}
        return said | paths

    @property
    def source(self) -> str:
        return f"{location(self.path).name if is_local(self.path) else self.path}; licence: {self.licence}"

    @property
    def columns(self) -> Columns:
        """What is read of each row; of a conversation also whether the model might have called a tool."""
        named = (self._asked, self.id_column, self.group_column, self.reference_column)
        return Columns(list(dict.fromkeys(filter(None, named))), OFFERS if self.messages_column else ())

    @property
    def _asked(self) -> str:
        return self.messages_column or self.text_column

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """The split's prompts, each once.

        Raises UserError where the data is missing, empty, unreadable, lacks a column, repeats an id, has no row that
        can be used, or leaves the split without a prompt.
        """
        empty = True
        for item in self.labelled(split, seed):
            empty = False
            yield item
        if empty and split != "valid":
            raise UserError(f"{self.path} leaves no {split} prompts{self._why_none}")

    @property
    def _why_none(self) -> str:
        if self.test_path:
            return ": all of them, or their groups, are in test_path"
        if self.test_split:
            return f": all of them, or their groups, are in test_split {self.test_split}"
        return f" with test_share {self.test_share}: set test_path to a file of test prompts, or another test_share"

    def labelled(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """The split's prompts. What an earlier one of test, valid and train has, or says alike, is left out."""
        with closing(SeenIds()) as rows, closing(SeenIds()) as groups, closing(SeenIds()) as taken:
            known = Conversations(rows, groups)
            for placed in self._all_rows() if self.messages_column else ():
                for item in each(placed, self._item):
                    known.add(item)
            tested = self.test_rows()
            if tested is not None and split == "test":
                yield from self._read(tested, known)
                return
            for item in self._read(tested, known) if tested is not None else ():
                _take(item, taken)
            yield from self._shared(split, seed, self.test_share if tested is None else 0.0, known, taken)

    def _shared(
        self, split: Split, seed: int, test_share: float, known: Conversations, taken: SeenIds
    ) -> Iterator[LabelledPrompt]:
        """A split of `path` without what is taken, or is in an earlier split."""
        own = PLACES.index(split)
        if (0.0, test_share, test_share + self.valid_share)[own]:
            for item in self._read(self.train_rows(), known):
                if self._place(item, seed, test_share) < own:
                    _take(item, taken)
        for item in self._read(self.train_rows(), known):
            if self._place(item, seed, test_share) != own:
                continue
            if (group := _group(item)) and group in taken:
                left_out(split, alike=False)
            elif _alike(item) in taken:
                left_out(split, alike=ids(item.prompt.messages)[-1] not in taken)
            else:
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

    def _all_rows(self) -> Iterator[Iterable[Placed]]:
        yield self.train_rows()
        if (tested := self.test_rows()) is not None:
            yield tested

    def _read(self, rows: Iterable[Placed], known: Conversations) -> Iterator[LabelledPrompt]:
        """Each prompt once, with its cluster."""
        with closing(SeenIds()) as seen:
            for place, item in each_placed(rows, self._item):
                if seen.add(item.prompt.prompt_id):
                    yield self._clustered(item, known)
                elif self.id_column is not None:
                    raise UserError(
                        f"{place}: {self.id_column} {item.prompt.prompt_id} occurs more than once; make ids unique"
                    )

    def _clustered(self, item: LabelledPrompt, known: Conversations) -> LabelledPrompt:
        if item.cluster or (self.messages_column is None and self.id_column is None):
            return item
        # Rows with ids of their own may repeat a text, and a later row of a log holds what an earlier one asked.
        return replace(item, cluster=known.cluster(item.prompt))

    def _item(self, row: Row) -> LabelledPrompt:
        """The prompt of a row, its cluster only where a column says it."""
        messages, answer = self._messages(row)
        named = text_of(cell(row, self.id_column), self.id_column) if self.id_column else ""
        group = written(cell(row, self.group_column), self.group_column) if self.group_column else ""
        prompt = Prompt(named or ids(messages)[-1], messages)
        return LabelledPrompt(prompt, self._references(row, answer), "all", cluster=group)

    def _messages(self, row: Row) -> tuple[Sequence[Message], str]:
        """What is asked, and what was answered, where that is known."""
        if self.messages_column is None:
            return [user(text_of(cell(row, self.text_column), self.text_column))], ""
        beside = self.messages_column.rpartition(".")[0]
        if any(parsed(cell(row, f"{beside}.{offer}" if beside else offer)) for offer in OFFERS):
            raise Refused("the request offers tools")
        return conversation(cell(row, self.messages_column), self.messages_column)

    def _references(self, row: Row, answer: str) -> list[str]:
        if self.reference_column is None:
            return []
        if self.reference_column == self.messages_column:
            return [answer] if answer else []
        value = cell(row, self.reference_column)
        references = (written(one, self.reference_column) for one in (value if isinstance(value, list) else [value]))
        return [reference for reference in references if reference]


def _take(item: LabelledPrompt, taken: SeenIds) -> None:
    """What must not be in another split: the group, and the text, since ids may be numbered anew in each file."""
    for one in filter(None, (_group(item), _alike(item), ids(item.prompt.messages)[-1])):
        taken.add(one)


def _group(item: LabelledPrompt) -> str:
    return content_id("group", item.cluster) if item.cluster else ""


def _alike(item: LabelledPrompt) -> str:
    return "\x1f".join(["alike", *(alike(message["content"]) for message in item.prompt.messages)])


def _inner(match: re.Match[str]) -> str:
    """What is compared: the first group, or the whole match where there is none or it took no part."""
    group = match.group(1) if match.re.groups else None
    return (match.group() if group is None else group).strip()
