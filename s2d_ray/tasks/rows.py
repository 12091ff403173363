"""Rows of a data set: a name on the hub, a local file or folder, or an excerpt shipped with the package.

Tasks over rows share the options that say where the rows are and how they are split.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from s2d_ray.data.records import LabelledPrompt, content_id
from s2d_ray.data.storage import NameOrLocation, local_copy, location
from s2d_ray.errors import UserError
from s2d_ray.tasks.distinct import Seen
from s2d_ray.tasks.normalisation import caseless
from s2d_ray.tasks.task import Split, Task

Row = dict[str, Any]
T = TypeVar("T")

FORMATS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


class RowTask(Task, ABC):
    """A task over the rows of a data set."""

    shipped: ClassVar[str]
    """File of the excerpt in the package's data folder."""
    shipped_test: ClassVar[str | None] = None
    """File of the excerpt's own test rows."""
    shipped_source: ClassVar[str]
    """Where the excerpt comes from, with its licence."""

    path: NameOrLocation | None = None
    """A name on the hub, or a .jsonl, .json, .parquet or .csv file or folder, here or at `s3://…` or `gs://…`; unset:
    the shipped excerpt."""
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
    """Share of the questions that are in neither split."""
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
        with closing(Seen()) as seen:
            for item in self.labelled(split, seed):
                if seen.add(item.prompt.prompt_id):
                    yield item

    def records(
        self, split: Split, seed: int, read: Callable[[Iterable[Row]], Iterable[T]], question: Callable[[T], str]
    ) -> Iterator[T]:
        """What `read` makes of the rows of one split; all that share a question are in the same split."""
        tested = self._test_rows()
        own_test = None if tested is None else list(read(tested))
        if split == "test" and own_test is not None:
            yield from own_test
            return
        apart = {caseless(question(record)) for record in own_test or ()}
        test_share = self.test_share if own_test is None else 0.0
        for record in read(self._train_rows()):
            asked = caseless(question(record))
            if asked not in apart and part_of(asked, seed, test_share, self.valid_share) == split:
                yield record

    def _train_rows(self) -> Iterator[Row]:
        if self.path is None:
            return load_rows(shipped_file(self.shipped))
        return load_rows(self.path, self.config, self.split, self.revision)

    def _test_rows(self) -> Iterator[Row] | None:
        if self.test_path is not None:
            return load_rows(self.test_path, self.config, self.test_split or self.split, self.revision)
        if self.path is None:
            return load_rows(shipped_file(self.shipped_test)) if self.shipped_test else None
        if self.test_split is not None:
            return load_rows(self.path, self.config, self.test_split, self.revision)
        return None


def part_of(question: str, seed: int, test_share: float, left_out: float) -> Split | None:
    """The split that a question is in, whatever is asked around it and wherever it stands in a file.

    None for the share `left_out` of them, which are in neither.
    """
    place = int(content_id(str(seed), "split", question)[:8], 16) / 16**8
    return "test" if place < test_share else None if place < test_share + left_out else "train"


def shipped_file(name: str) -> str:
    """The path of a file in the package's data folder."""
    return str(resources.files("s2d_ray.tasks") / "data" / name)


def load_rows(path: str, config: str | None = None, split: str = "train", revision: str | None = None) -> Iterator[Row]:
    """The rows of a local file or folder, or of a data set on the hub.

    Raises UserError where there is no such data, it cannot be read, or it has no rows.
    """
    # Imported here: it takes seconds, and most commands read no data.
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    local = _local_files(path)
    try:
        if local:
            kind = _format(Path(local[0]), path)
            # Not load_dataset: it tells the hub of every load of a local file, and waits for it without a network.
            rows = getattr(datasets.Dataset, f"from_{kind}")(local)
        else:
            rows = datasets.load_dataset(path, config, split=split, revision=revision)
    except (DatasetsError, OSError, ValueError) as error:
        where = "cannot be read" if local else "is neither a file here nor to be had from the hub"
        raise UserError(f"data {path} {where} ({_reason(error)})") from error
    if not len(rows):
        raise UserError(f"data {path} has no rows")
    return map(dict, rows)


def _local_files(path: str) -> list[str]:
    """The files at a path; none where it can only be a name on the hub."""
    found = location(path)
    if "://" in path and not found.exists():
        raise UserError(f"no data file or folder {path}")
    found = local_copy(found).expanduser()
    if found.is_file():
        files = [found]
    elif found.is_dir():
        files = sorted(f for f in found.rglob("*") if _suffix(f) in FORMATS)
    elif path.startswith((".", "/", "~")) or _suffix(found) in FORMATS:
        raise UserError(f"no data file or folder {path}")
    else:
        return []
    if not any(file.stat().st_size for file in files):
        raise UserError(f"data {path} is empty")
    if len({_format(file, path) for file in files}) > 1:
        raise UserError(f"data {path} mixes kinds of files; point to one of them")
    return [str(file) for file in files]


def _format(file: Path, path: str) -> str:
    if _suffix(file) not in FORMATS:
        raise UserError(f"data {path} is not one of {', '.join(FORMATS)}, plain or .gz")
    return FORMATS[_suffix(file)]


def _suffix(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
