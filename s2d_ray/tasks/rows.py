"""Tasks over the rows of a data set share the options that say where the rows are and how they are split."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib import resources
from typing import ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from s2d_ray.answers.normalisation import caseless
from s2d_ray.data.records import LabelledPrompt, content_id
from s2d_ray.data.storage import NameOrLocation
from s2d_ray.tasks.deduplication import SeenIds, alike
from s2d_ray.tasks.readers import ALL, Columns
from s2d_ray.tasks.reading import MAX_BAD_LINES, placed_rows
from s2d_ray.tasks.refusals import Placed, account
from s2d_ray.tasks.task import Split, Task

T = TypeVar("T")
PLACES: tuple[Split, ...] = ("test", "valid", "train")
"""The splits, a later one without what an earlier one has."""


class RowTask(Task, ABC):
    """A task over the rows of a data set."""

    shipped: ClassVar[str]
    """File of the excerpt in the package's data folder."""
    shipped_test: ClassVar[str | None] = None
    """File of the excerpt's own test rows."""
    shipped_source: ClassVar[str]
    """Where the excerpt comes from, with its licence."""

    path: NameOrLocation | None = None
    """A name on the hub, or a .jsonl, .json, .csv, .tsv (each plain, .gz or .zst) or .parquet file, or a folder of
    files of one of these formats, here or at `s3://…`, `gs://…` or `az://…`; unset: the excerpt."""
    config: str | None = None
    """On the hub: which configuration of the data set."""
    revision: str | None = None
    """On the hub: branch, tag or commit."""
    split: str = "train"
    """On the hub: the split that is distilled on."""
    test_split: str | None = None
    """On the hub: the split that is tested on."""
    test_path: NameOrLocation | None = None
    """Rows that are tested on, where they are another data set or file."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of the questions held out, chosen by content; where neither `test_path` nor `test_split` is set."""
    valid_share: float = Field(0.0, ge=0, lt=1)
    """Share of the questions held out to decide whether a further round is run; more than 0 where `rounds` is."""
    max_bad_lines: int = Field(MAX_BAD_LINES, ge=0)
    """Lines or rows of `path`, and as many of `test_path`, that may be no row at all: no JSON, not UTF-8, of another
    width than the header. They are refused with their place, as rows without a prompt are; more of them end the run. 0
    ends it at the first."""
    licence: str = "as given by its owner"
    """Licence of the data at `path`, for the data card."""

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.test_share + self.valid_share >= 1:
            raise ValueError("test_share and valid_share leave nothing to train on")
        return self

    @property
    def source(self) -> str:
        return self.shipped_source if self.path is None else f"{self.path}; licence: {self.licence}"

    @abstractmethod
    def labelled(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """The prompts of one split, as `items` gives them, but with repetitions where the data has some."""

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """The split's prompts, each once. Raises UserError where the data is missing or has another layout."""
        with closing(SeenIds()) as seen:
            for item in self.labelled(split, seed):
                if seen.add(item.prompt.prompt_id):
                    yield item

    def records(
        self, split: Split, seed: int, read: Callable[[Iterable[Placed]], Iterable[T]], question: Callable[[T], str]
    ) -> Iterator[T]:
        """What `read` makes of the rows of one split; all that share a question are in the same split.

        What asks as an earlier one of test, valid and train does, but for case, spaces and punctuation, is left out.
        """
        tested = self.test_rows()
        own_test = None if tested is None else list(read(tested))
        if split == "test" and own_test is not None:
            yield from own_test
            return
        shares = self.test_share if own_test is None else 0.0, self.valid_share
        earlier = PLACES[: PLACES.index(split)]
        with closing(SeenIds()) as taken:
            for record in own_test or ():
                _take(question(record), taken)
            for record in read(self.train_rows()) if any(shares[: len(earlier)]) else ():
                if split_of(caseless(question(record)), seed, *shares) in earlier:
                    _take(question(record), taken)
            for record in read(self.train_rows()):
                asked = question(record)
                if split_of(caseless(asked), seed, *shares) != split:
                    continue
                if alike(asked) in taken:
                    left_out(split, alike=f"= {caseless(asked)}" not in taken)
                else:
                    yield record

    @property
    def columns(self) -> Columns:
        """What is read of each row."""
        return ALL

    def train_rows(self) -> Iterator[Placed]:
        """Of `path`: its rows, or of a data set on the hub those of `split`."""
        if self.path is None:
            return placed_rows(shipped_file(self.shipped))
        return self._rows(self.path, self.split)

    def test_rows(self) -> Iterator[Placed] | None:
        """Those that are for testing only; None where a share of the others is held out."""
        if self.test_path is not None:
            return self._rows(self.test_path, self.test_split or self.split)
        if self.path is None:
            return placed_rows(shipped_file(self.shipped_test)) if self.shipped_test else None
        if self.test_split is not None:
            return self._rows(self.path, self.test_split)
        return None

    def _rows(self, path: str, split: str) -> Iterator[Placed]:
        return placed_rows(path, self.config, split, self.revision, self.columns, self.max_bad_lines)


def _take(question: str, taken: SeenIds) -> None:
    taken.add(alike(question))
    taken.add(f"= {caseless(question)}")


def left_out(split: Split, alike: bool) -> None:
    """Count what is left out of training because it is held out; `alike`: not the very same is."""
    if split == "train" and (counts := account()):
        counts.leave_out(alike)


def split_of(question: str, seed: int, test_share: float, valid_share: float) -> Split:
    """The split that a question is in, whatever is asked around it and wherever it stands in a file."""
    place = int(content_id(str(seed), "split", question)[:8], 16) / 16**8
    return "test" if place < test_share else "valid" if place < test_share + valid_share else "train"


def shipped_file(name: str) -> str:
    """The path of a file in the package's data folder."""
    return str(resources.files("s2d_ray.tasks") / "data" / name)
