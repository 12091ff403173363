"""The general set, while evaluation has the models loaded: how likely replies are, and what prompts are answered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.contents import write_stamped
from s2d_ray.data.files import make_folder, read_rows
from s2d_ray.data.manifests import GeneralManifest
from s2d_ray.data.records import Message, Row, assistant, prompt_from_row
from s2d_ray.data.shards import forget_checkpoint
from s2d_ray.evaluation.general import AFTER, BEFORE, ITEMS, MEASURED
from s2d_ray.inference.engine import RunningEngine
from s2d_ray.models import Model
from s2d_ray.recipes.general import General
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.row_jobs import Pass, Rows
from s2d_ray.tasks.general import general_items, known

COMMIT_ROWS = 32
"""Items per output part: one part holds those of small sets."""


@dataclass(frozen=True)
class GeneralWork:
    """The model before and after on the general set: what is to be done, and where it goes."""

    recipe: AnyRecipe
    base: Model
    student: Model | None
    """None where nothing was trained: then there is nothing to measure."""
    corpora: Sequence[Path]
    """The prompts of the run, in which items may stand."""
    artifact: Artifact[GeneralManifest]

    def passes(self) -> Iterator[Pass]:
        """What is to be asked of either model; nothing where it is finished."""
        settings = self.recipe.evaluate.general
        if self.artifact.open() or settings is None or self.student is None:
            return
        rows = Rows(self._source(settings), self.artifact.path, MEASURED, COMMIT_ROWS)
        for arm, model in ((BEFORE, self.base), (AFTER, self.student)):
            yield Pass(rows, model.folder, partial(measuring, arm, settings, self.recipe.seed))

    def finish(self, loads: int, seconds: float) -> None:
        """Write the manifest, once the passes are over."""
        if self.artifact.finished:
            return
        settings = self.recipe.evaluate.general
        items = general_items(settings.items) if settings and self.student else []
        rows = chain.from_iterable(read_rows(corpus, ["messages", "fields"]) for corpus in self.corpora)
        seen = len(known(items, rows)) if items else 0
        self.artifact.finish(
            GeneralManifest(
                rows=len(items),
                known=seen,
                max_tokens=settings.max_tokens if settings else 0,
                model_loads=loads,
                seconds=seconds,
            )
        )
        forget_checkpoint(self.artifact.path)

    def _source(self, settings: General) -> Path:
        source = self.artifact.path / "_items"
        make_folder(source)
        rows = [
            {"prompt_id": item.item_id, "messages": item.messages, "reply": item.reply}
            for item in general_items(settings.items)
        ]
        write_stamped(source / "part-0.parquet", pa.Table.from_pylist(rows, schema=ITEMS))
        return source


def measuring(arm: str, settings: General, seed: int) -> RowWork:
    """What an engine actor does with one item."""
    greedy = Sampling(temperature=0.0, top_p=1.0, max_tokens=settings.max_tokens)

    blank: Row = {"arm": arm, "text": "", "tokens": None, "log_likelihood": None, "cut": False, "error": ""}

    async def measure(row: Row, engine: RunningEngine) -> list[Row]:
        messages = prompt_from_row(row | {"fields": ()}).messages
        work = _scored(messages, row["reply"], engine) if row["reply"] else answered(messages, engine)
        return [row | blank | await work]

    def failed(row: Row, reason: str) -> list[Row]:
        """An item that is too long for the engine is left out."""
        return [row | blank | {"error": reason}]

    async def answered(messages: Sequence[Message], engine: RunningEngine) -> Row:
        [said] = await engine.complete(messages, greedy, 1, seed)
        return {"text": said.text, "tokens": said.completion_tokens, "cut": said.finish_reason == "length"}

    return RowWork(measure, failed)


async def _scored(messages: Sequence[Message], reply: str, engine: RunningEngine) -> Row:
    scores = await engine.score([*messages, assistant(reply)])
    return {"tokens": len(scores), "log_likelihood": sum(scores)}
