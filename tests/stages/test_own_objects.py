"""A task, a method and a rule that only this process knows, run by the workers of a local Ray."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import LabelledPrompt, Prompt, user
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.task import Split, Task
from tests.stages.runs import by_id

pytestmark = pytest.mark.ray


def test_objects_that_no_worker_can_import_run_there(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    class Cases(Task):
        """Numbered cases."""

        count: int

        def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
            for number in range(self.count):
                yield LabelledPrompt(Prompt(f"{split}-{number}", [user(f"case {number}")]), [], "all")

        def parse(self, text: str, prompt: Prompt) -> str | None:
            return text.upper()

        @property
        def source(self) -> str:
            return "made up"

    async def echo_twice(prompt: Prompt, generate: GenerateFunction) -> str:
        [one] = await generate(prompt.messages, step="echo")
        return f"{one.text} {suffix}"

    class Odd(Rule):
        """Keeps the first answer to every other case."""

        remainder: int = 1

        async def decide(
            self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
        ) -> Kept | Rejected:
            number = int(parsed.prompt.text.removeprefix("case "))
            return Kept(parsed.answers[0] or "") if number % 2 == self.remainder else Rejected("even")

    suffix = "and again"
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "model": str(tiny_model),
            "task": Cases(count=12),
            "method": echo_twice,
            "curate": {"rules": [Odd]},
            "engine": {"kind": "scripted"},
            "generate": {"samples": 2},
            "evaluate": {"controls": False},
        }
    )
    folders = RunFolders(tmp_path / recipe.name)
    stages = ("generate", "curate")
    resolved = resolve(recipe)
    pipeline.ingest(resolved, folders)
    [plan] = pipeline.prepare(resolved, folders, stages)
    for stage in stages:
        pipeline.STAGES[stage](plan)
    kept, rejected = (by_id(folders.distilled, status) for status in ("kept", "rejected"))
    assert {row["target"] for row in kept.values()} == {f"CASE {n} AND AGAIN" for n in range(1, 12, 2)}
    assert {row["reason"] for row in rejected.values()} == {"even"}
    assert len(rejected) == 6
