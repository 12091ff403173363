"""The two sets of prompts of a recipe: the unlabelled ones on disk, and the held-out ones with references."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain, count, islice
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.data.artifacts import Artifact, Json
from s2d_ray.data.contents import Contents, Stamp, check_contents
from s2d_ray.data.files import replacing
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.data.records import PROMPTS, LabelledPrompt, Row, content_id, prompt_to_row
from s2d_ray.errors import UserError
from s2d_ray.recipes.recipe import Recipe, smaller
from s2d_ray.tasks.refusals import accounted
from s2d_ray.tasks.task import Split, Task, held_out_items, training_prompts

# A part of the work reads whole row groups, so these are small; a file's footer lists its groups, so files end too.
ROWS_PER_GROUP = 1024
GROUPS_PER_FILE = 64


def ingested(recipe: Recipe, task: Task, folder: Path) -> Artifact[CorpusManifest]:
    """The corpus that `write_corpus` left in a folder.

    Raises UserError where there is none yet, or it is that of other prompts or another task, seed or limit.
    """
    digest = Artifact(folder, {}, CorpusManifest).manifest.digest
    corpus = Artifact(folder, corpus_inputs(recipe, task, digest), CorpusManifest)
    corpus.require()
    return corpus


def write_corpus(recipe: Recipe, task: Task, folder: Path, overwrite: bool = False) -> Artifact[CorpusManifest]:
    """The unlabelled corpus as Parquet with ids: what System 2 gets to see.

    Reads the prompts twice, to know them and to write them, and holds only `recipe.limit` of them in memory, or a
    group where there is no limit.
    Raises UserError where the task cannot read its prompts, they change meanwhile, or the folder holds another corpus.
    """
    known, written = _Counted(), _Counted()
    with accounted() as account:
        for _ in known.through(_rows(recipe, task)):
            pass
    artifact = Artifact(folder, corpus_inputs(recipe, task, known.digest), CorpusManifest)
    # What is not whole is written anew, whatever it was begun from.
    if not artifact.open(overwrite or not artifact.finished):
        _write(written.through(_rows(recipe, task)), folder)
        if written.digest != known.digest:
            raise UserError(f"the prompts changed while they were read ({task.source}): run the same command again")
        check_contents(folder, written.contents)
        left_out = {
            "rows_read": account.rows,
            "refused": dict(account.refused),
            "first_refused": account.first_refused or None,
            "held_out_too": account.held_out_too,
            "alike": account.alike,
        }
        artifact.finish(
            CorpusManifest(rows=written.contents.rows, source=task.source, digest=written.digest, **left_out)
        )
    return artifact


def left_out(corpus: CorpusManifest, with_place: bool) -> Iterator[str]:
    """What a person should know of rows that are not in the corpus: a line for each kind.

    `with_place` says where the first refused row is, and what it holds where that is the reason.
    """
    if refused := sum(corpus.refused.values()):
        reasons = ", ".join(f"{reason} ({n:,})" for reason, n in corpus.refused.items())
        first = f"; the first is {corpus.first_refused}" if with_place else ""
        yield f"{refused:,} of {corpus.rows_read:,} rows refused: {reasons}{first}"
    if corpus.held_out_too:
        alike = f", {corpus.alike:,} of them but for case, spaces and punctuation" if corpus.alike else ""
        yield f"{corpus.held_out_too:,} prompts left out of training that are held out too{alike}"


def _rows(recipe: Recipe, task: Task) -> Iterable[Row]:
    rows = map(prompt_to_row, training_prompts(task, recipe.seed))
    # Chosen by id, so that a limited corpus is a sample of the whole and not its beginning.
    return rows if recipe.limit is None else heapq.nsmallest(recipe.limit, rows, key=lambda row: str(row["prompt_id"]))


def _write(rows: Iterable[Row], folder: Path) -> None:
    iterator = iter(rows)
    for number in count():
        groups = _tables(iterator)
        # The first file is there even where the corpus is empty.
        first = next(groups, None if number else PROMPTS.empty_table())
        if first is None:
            return
        path = folder / f"part-{number:05}.parquet"
        with replacing(path) as partial, pq.ParquetWriter(partial, PROMPTS) as file:
            own = Contents()
            for table in chain([first], islice(groups, GROUPS_PER_FILE - 1)):
                file.write_table(table)
                own += Contents.of(table["prompt_id"].to_pylist())
            file.add_key_value_metadata(Stamp(path.stem, 0, own, own).metadata())


def _tables(rows: Iterator[Row]) -> Iterator[pa.Table]:
    while group := list(islice(rows, ROWS_PER_GROUP)):
        yield pa.Table.from_pylist(group, schema=PROMPTS)


def corpus_inputs(recipe: Recipe, task: Task, digest: str) -> Json:
    """What a corpus is made from, with the digest of its prompts."""
    return {"task": task_inputs(recipe, task), "seed": recipe.seed, "limit": recipe.limit, "digest": digest}


def task_inputs(recipe: Recipe, task: Task) -> Json:
    """The task with its defaults, so that spelling a default out changes nothing."""
    # How much may be wrong with the data changes nothing of what comes of it.
    return {"name": recipe.task.name, **task.model_dump(mode="json", exclude={"max_bad_lines"})}


def held_out(recipe: Recipe, task: Task, split: Split = "test") -> list[LabelledPrompt]:
    """The held-out prompts of the recipe, at most its limit per subset and group, in order of id.

    Where there is a limit, a first prompt of each cluster comes before a second of any, and clusters come in the same
    order everywhere: a question is asked in all subsets, and as many questions as can be.
    Raises UserError where there are none, or none of a subset that is to decide.
    """
    items = _held_out(recipe, task, split)
    subsets = {item.subset for item in items}
    if split == "valid" and not items:
        raise UserError(
            f"rounds above 1 need prompts of task {recipe.task.name} that are held out to decide about a further "
            "round: set valid_share, valid_items or valid_cities in task"
        )
    if unknown := set(recipe.evaluate.decides or ()) - subsets:
        raise UserError(
            f"evaluate.decides names {', '.join(sorted(unknown))}; the {split} prompts have the subsets "
            f"{', '.join(sorted(subsets))}"
        )
    return items


def _held_out(recipe: Recipe, task: Task, split: Split) -> list[LabelledPrompt]:
    limit = smaller(recipe.limit, recipe.evaluate.limit)
    cells: dict[tuple[str, str], list[LabelledPrompt]] = {}
    for item in held_out_items(task, split, recipe.seed):
        cell = cells.setdefault((item.subset, item.group), [])
        cell.append(item)
        if limit is not None and len(cell) >= 2 * limit:
            cell[:] = _in_turn(cell)[:limit]
    return _by_id(item for cell in cells.values() for item in _in_turn(cell)[:limit])


def _by_id(items: Iterable[LabelledPrompt]) -> list[LabelledPrompt]:
    return sorted(items, key=lambda item: item.prompt.prompt_id)


def _in_turn(items: Iterable[LabelledPrompt]) -> list[LabelledPrompt]:
    """One prompt of each cluster, then a second of each, and so on; clusters by a hash, a prompt alone by its id."""
    taken: Counter[str] = Counter()
    places: list[tuple[int, str, LabelledPrompt]] = []
    for item in _by_id(items):
        taken[item.unit] += 1
        places.append((taken[item.unit], content_id(item.cluster) if item.cluster else item.unit, item))
    return [item for *_, item in sorted(places, key=itemgetter(0, 1))]


def held_out_digest(items: Iterable[LabelledPrompt]) -> str:
    """Changes with any prompt, reference or cluster."""
    return content_id(*(part for item in items for part in _said(item)))


def _said(item: LabelledPrompt) -> list[str]:
    cluster = [f"cluster {item.cluster}"] if item.cluster else []
    return [item.prompt.prompt_id, item.prompt.text, *item.references, *cluster]


class _Counted:
    """Which rows there were, and what changes with any of them; not with their order, so the hashes are added up."""

    def __init__(self) -> None:
        self.contents, self._total = Contents(), 0

    def through(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows, counted as they go by."""
        for row in rows:
            hashed = blake2b(f"{row['prompt_id']} {row['messages']} {row['fields']}".encode(), digest_size=16)
            self.contents += Contents.of([row["prompt_id"]])
            self._total += int.from_bytes(hashed.digest())
            yield row

    @property
    def digest(self) -> str:
        return f"{self._total % 2**128:032x}"
