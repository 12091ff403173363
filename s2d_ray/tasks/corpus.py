"""The two sets of prompts of a recipe: the unlabelled ones on disk, and the held-out ones with references."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.artifacts import Artifact, Json
from s2d_ray.config import Recipe, smaller
from s2d_ray.records import PROMPTS, LabelledPrompt, Row, content_id, prompt_to_row
from s2d_ray.tasks.catalogue import load_task
from s2d_ray.tasks.task import prompts


def write_corpus(recipe: Recipe, folder: Path, overwrite: bool) -> Artifact:
    """The unlabelled corpus as Parquet with ids, in order of id: what System 2 gets to see.

    Raises UserError where the task cannot read its prompts, or the folder holds another corpus.
    """
    task = load_task(recipe.task)
    # Chosen by id, so that a limited corpus is a sample of the whole and not its beginning.
    rows = sorted((prompt_to_row(p) for p in prompts(task, recipe.seed)), key=lambda row: row["prompt_id"])
    rows = rows[: recipe.limit]
    digest = _digest(rows)
    artifact = Artifact(folder, corpus_inputs(recipe, digest))
    if not artifact.open(overwrite):
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), folder / "part-0.parquet")
        artifact.finish({"rows": len(rows), "source": task.source, "digest": digest})
    return artifact


def corpus_inputs(recipe: Recipe, digest: str) -> Json:
    """What a corpus is made from, with the digest of its prompts."""
    return {"task": task_inputs(recipe), "seed": recipe.seed, "limit": recipe.limit, "digest": digest}


def task_inputs(recipe: Recipe) -> Json:
    """The task with its defaults, so that spelling a default out changes nothing."""
    return {"name": recipe.task.name, **load_task(recipe.task).model_dump(mode="json")}


def held_out(recipe: Recipe) -> list[LabelledPrompt]:
    """The held-out prompts of the recipe, at most its limit per subset and group, in order of id."""
    limit = smaller(recipe.limit, recipe.evaluate.limit)
    taken: dict[tuple[str, str], int] = {}
    chosen: list[LabelledPrompt] = []
    items = load_task(recipe.task).items("test", recipe.seed)
    for item in sorted(items, key=lambda item: item.prompt.prompt_id):
        cell = (item.subset, item.group)
        if limit is None or taken.get(cell, 0) < limit:
            taken[cell] = taken.get(cell, 0) + 1
            chosen.append(item)
    return chosen


def held_out_digest(items: Iterable[LabelledPrompt]) -> str:
    """Changes with any prompt or reference."""
    return content_id(*(part for i in items for part in (i.prompt.prompt_id, i.prompt.text, *i.references)))


def _digest(rows: Iterable[Row]) -> str:
    return content_id(*(f"{row['prompt_id']} {row['messages']} {row['fields']}" for row in rows))
