"""One prompt put to System 1, System 2 and, where there is one, the distilled System 1.

In this process and without Ray: one engine, and one sample of each arm.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from s2d_ray.curation.samples import parse_sample
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Message, Prompt, Sample, Step, user
from s2d_ray.errors import UserError
from s2d_ray.inference.engine import CompletionEngine, EngineDied, EngineError
from s2d_ray.inference.method_runs import run_method
from s2d_ray.inference.start import start_engine
from s2d_ray.methods.direct import direct
from s2d_ray.methods.method import Method
from s2d_ray.models import Model
from s2d_ray.runs.distilled import find_distilled
from s2d_ray.runs.resolved import SYSTEM1, ResolvedPart
from s2d_ray.runs.revisions import base_model
from s2d_ray.tasks.asking import asked
from s2d_ray.tasks.conversations import said, turns_of
from s2d_ray.tasks.refusals import Refused

T = TypeVar("T")


@dataclass(frozen=True)
class Arm:
    """A model and a method."""

    name: str
    model: Model
    method: Method
    method_name: str
    """As the recipe calls it."""
    note: str = ""
    """What to know about the model."""


@dataclass(frozen=True)
class Reply:
    """What one arm made of the prompt."""

    arm: str
    model: str
    method: str
    note: str
    steps: Sequence[Step]
    text: str
    """What the method returned."""
    answer: str | None
    """What the task reads off the text; None where it gives none."""
    error: str
    """Why there is no text: malformed model output, or a request that the engine refused."""
    tokens: int
    """Generated in all steps."""
    seconds: float
    """From the prompt to the answer, without the engine's start; steps may overlap."""


def read_chat(file: Path, question: str | None) -> list[Message]:
    """The turns of a chat in a JSON file, and the question after them. Raises UserError where it holds none."""
    form = '[{"role": "system", "content": "…"}, {"role": "user", "content": "…"}, …]'
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        chat = [*map(said, turns_of(read.get("messages") if isinstance(read, dict) else read, "chat"))]
    except (ValueError, Refused) as error:
        raise UserError(f"{file} is no chat ({error}): write {form}") from error
    return chat if question is None else [*chat, user(question.strip())]


def prompt_of(part: ResolvedPart, question: str | Sequence[Message] | None) -> Prompt:
    """The prompt of a question, or of a chat that ends with one; without any, the task's first held-out prompt.

    Raises UserError where the task can make no prompt of it.
    """
    task, recipe = part.task, part.recipe
    if question is not None:
        chat = [user(question.strip())] if isinstance(question, str) else question
        if chat and not chat[-1]["content"].strip():
            raise UserError("the question is empty: type one, or leave it out for a held-out prompt")
        return asked(task, chat)
    item = next(task.items("test", recipe.seed), None)
    if item is None:
        raise UserError(f"task {recipe.task.name} has no held-out prompts: type a question")
    return item.prompt


def arms_of(part: ResolvedPart, folders: RunFolders) -> list[Arm]:
    """System 1, System 2 and, where an earlier run left its model, distilled System 1.

    Raises UserError where there is no such base model.
    """
    base = base_model(part.recipe, folders)
    names = {"base": SYSTEM1.name, "teacher": part.recipe.method.name}
    arms = [Arm(arm, base, part.base_arms[arm], name) for arm, name in names.items()]
    if found := find_distilled(part, folders, base):
        note = f"trained on {found.examples} pairs"
        if found.changes:
            note += f", by another recipe than this one: {found.changes}"
        arms.append(Arm("student", found.model, direct, SYSTEM1.name, note))
    return arms


async def replies_of(part: ResolvedPart, prompt: Prompt, arms: Sequence[Arm]) -> list[Reply]:
    """What each arm replies, sampled as in evaluation.

    Raises EngineDied where the engine does not start or ends on the way, and UserError where a method fails.
    """
    recipe, replies, loaded = part.recipe, list[Reply](), arms[0].model
    engine = await _ready(start_engine(recipe.engine, loaded.folder, recipe.trust_remote_code, chat=recipe.chat))
    try:
        # One after the other: no arm's seconds hold another's calls.
        for arm in arms:
            if arm.model != loaded:
                await _ready(engine.load(arm.model.folder))
                loaded = arm.model
            replies.append(await _reply(part, prompt, arm, engine))
    finally:
        engine.close()
    return replies


async def _ready(start: Awaitable[T]) -> T:
    """The engine's start, or another model's, with its failure as EngineDied."""
    try:
        return await start
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # Ctrl-C ends the engine's processes too: here it is raised, and not taken for a failure of theirs.
        await asyncio.sleep(0)
        raise EngineDied(f"it did not start: {error}") from error


async def _reply(part: ResolvedPart, prompt: Prompt, arm: Arm, engine: CompletionEngine) -> Reply:
    recipe = part.recipe
    start = time.monotonic()
    try:
        [sample] = await run_method(arm.method, prompt, engine, recipe.evaluate.sampling, 1, recipe.seed)
        seconds = time.monotonic() - start
        answer = parse_sample(sample, prompt, part.task)
    except EngineError as error:
        sample, seconds, answer = Sample("", error=str(error)), time.monotonic() - start, None
    except (EngineDied, UserError):
        raise
    except Exception as error:  # A bug in a method or task of the user's own.
        raise UserError(f"method {arm.method_name} failed ({type(error).__name__}: {error}); see --debug") from error
    return Reply(
        arm=arm.name,
        model=arm.model.name,
        method=arm.method_name,
        note=arm.note,
        steps=sample.steps,
        text=sample.text,
        answer=answer,
        error=sample.error,
        tokens=sample.tokens,
        seconds=seconds,
    )
