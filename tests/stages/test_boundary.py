"""A bad row, or a bug in a method, a task or a rule of a user's own, costs that row and says so in one line."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.data.files import read_json
from s2d_ray.data.records import (
    ANSWERS,
    CANDIDATES,
    DECISIONS,
    Candidates,
    LabelledPrompt,
    Prompt,
    Row,
    Sample,
    candidates_to_row,
    labelled_to_row,
    prompt_to_row,
    user,
)
from s2d_ray.data.shards import Shard
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.method import GenerateFunction, Method
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.stages.boundary import LONGEST_REASON, RowPlace, RowWork, table_of
from s2d_ray.stages.curate import _curate_row
from s2d_ray.stages.evaluate import _answer_row as _evaluate_row
from s2d_ray.stages.generate import _answer_row
from s2d_ray.stages.held_loop import leave_if_held
from s2d_ray.tasks.task import Split, Task

RECIPE = load_single_recipe("s2a-geonames", ["generate.samples=2"])
BAD, GOOD = Prompt("bad", [user("bad")]), Prompt("good", [user("good")])
HALF = "\ud83d"


class Answers(Task):
    """Reads what the test has it read off the text `bad`."""

    read: Any = None
    check: Any = None

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        yield LabelledPrompt(GOOD, [], "all")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return self.read(text) if text == "bad" and self.read else text

    def correct(self, answer: str | None, references: Any) -> bool:
        return bool(self.check(answer)) if answer == "bad" and self.check else True

    @property
    def source(self) -> str:
        return "made up"


def returning(value: Any) -> Method:
    """A method of a user's own that gives this for the bad prompt."""

    async def method(prompt: Prompt, generate: GenerateFunction) -> Any:
        return (value() if callable(value) else value) if prompt == BAD else "fine"

    return method


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: Any) -> Any:
        raise error

    return raise_it


class Silent(Exception):
    """Cannot even say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError


async def processed(work: RowWork, rows: list[Row], schema: pa.Schema, seconds: float = 60) -> list[Row]:
    """The rows as they are written."""
    engine, part = ScriptedEngine(Engine(kind="scripted")), Shard(name="part-0", turn=0, rows_per_part=1, slices=[])
    answered = [await work.answered(row, engine, RowPlace(part, index), {}, seconds) for index, row in enumerate(rows)]
    written: list[Row] = table_of(schema, rows, answered, work).to_pylist()
    return written


ENDS: list[tuple[Any, str]] = [
    (5, "TypeError: the method gave int, not a text"),
    (["x"], "TypeError: the method gave list, not a text"),
    (None, "TypeError: the method gave NoneType, not a text"),
    (b"x", "TypeError: the method gave bytes, not a text"),
    (HALF, "cannot be written: UnicodeEncodeError: "),
    (raising(ValueError(f"one\ntwo {HALF}")), r"ValueError: one two \ud83d"),
    (raising(ValueError("x" * 10_000)), "ValueError: xxx"),
    (raising(Silent()), "Silent"),
    (raising(SystemExit(3)), "RuntimeError: SystemExit"),
    (raising(asyncio.CancelledError()), "CancelledError"),
]


@pytest.mark.parametrize(("value", "reason"), ENDS)
async def test_whatever_a_method_gives_the_other_rows_are_written(value: Any, reason: str) -> None:
    work = _answer_row(RECIPE, Answers(), returning(value))
    bad, good = await processed(work, [prompt_to_row(BAD), prompt_to_row(GOOD)], CANDIDATES)
    assert bad["error"].startswith(reason)
    assert len(bad["error"]) <= LONGEST_REASON and "\n" not in bad["error"]
    assert (bad["samples"], good["error"], [one["text"] for one in good["samples"]]) == ([], "", ["fine"] * 2)


async def test_a_method_that_never_ends_fails_its_row_even_if_it_does_not_heed() -> None:
    async def stubborn(prompt: Prompt, generate: GenerateFunction) -> str:
        while prompt == BAD and asyncio.get_running_loop().time() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.2)
        return "fine"

    end = asyncio.get_running_loop().time() + 20
    rows = [prompt_to_row(BAD), prompt_to_row(GOOD)]
    bad, good = await processed(_answer_row(RECIPE, Answers(), stubborn), rows, CANDIDATES, seconds=0.5)
    assert (bad["error"], good["error"]) == ("no end within 0.5 s (engine.method_timeout)", "")
    assert asyncio.get_running_loop().time() < end


class Gives(Rule):
    """Decides as the test has it."""

    outcome: Any

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        if parsed.prompt != BAD:
            return Kept("fine")
        outcome: Kept | Rejected = self.outcome() if callable(self.outcome) else self.outcome
        return outcome


def candidates() -> list[Row]:
    return [candidates_to_row(Candidates(prompt, [Sample(prompt.text)] * 2)) for prompt in (BAD, GOOD)]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Kept(5), "TypeError: rule gives gave int, not a text"),  # type: ignore[arg-type]
        (Rejected(["x"]), "TypeError: rule gives gave list, not a text"),  # type: ignore[arg-type]
        (Kept(HALF), "cannot be written: UnicodeEncodeError: "),
        (Kept("x", vote_share="much"), "cannot be written: "),  # type: ignore[arg-type]
        (None, "AttributeError: "),
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(SystemExit()), "RuntimeError: SystemExit"),
    ],
)
async def test_whatever_a_rule_decides_the_other_rows_are_written(outcome: Any, reason: str) -> None:
    work = _curate_row(RECIPE, Answers(), [Gives(outcome=outcome)])
    bad, good = await processed(work, candidates(), DECISIONS)
    assert bad["reason"].startswith(reason)
    assert (bad["status"], bad["messages"], good["status"]) == ("failed", [user("bad")], "kept")


READ: list[tuple[Any, str]] = [
    (lambda text: 5, "TypeError: the task's parse gave int, not a text"),
    (lambda text: HALF, "cannot be written: UnicodeEncodeError: "),
    (raising(IndexError("no group")), "IndexError: no group"),
]


@pytest.mark.parametrize(("read", "reason"), READ)
async def test_whatever_a_task_reads_the_other_rows_are_written(read: Any, reason: str) -> None:
    work = _curate_row(RECIPE, Answers(read=read), [Gives(outcome=Kept("fine"))])
    bad, good = await processed(work, candidates(), DECISIONS)
    assert bad["reason"].startswith(reason)
    assert (bad["status"], good["status"]) == ("failed", "kept")


@pytest.mark.parametrize(
    ("task", "method", "reason"),
    [
        (Answers(read=READ[0][0]), returning("bad"), READ[0][1]),
        (Answers(read=READ[2][0]), returning("bad"), READ[2][1]),
        (Answers(check=raising(KeyError("x"))), returning("bad"), "KeyError: 'x'"),
        (Answers(), returning(HALF), "UnicodeEncodeError: "),
        (Answers(), returning(5), "TypeError: the method gave int, not a text"),
    ],
)
async def test_what_one_arm_does_costs_no_other_arm_its_answer(task: Task, method: Method, reason: str) -> None:
    rows = [labelled_to_row(LabelledPrompt(prompt, ["fine"], "all")) for prompt in (BAD, GOOD)]
    arms = {"base": returning("fine"), "teacher": method}
    work = _evaluate_row(RECIPE, task, arms, Sampling(), 1, 0)
    first, bad, *others = await processed(work, rows, ANSWERS)
    assert (first["arm"], bad["arm"]) == ("base", "teacher")
    assert bad["error"].startswith(reason)
    assert {row["error"] for row in (first, *others)} == {""}


async def test_a_row_that_an_earlier_attempt_failed_at_is_not_worked_on_again() -> None:
    async def worked_on(row: Row, engine: Any) -> list[Row]:
        raise AssertionError

    work = RowWork(worked_on, lambda row, reason: [row | {"error": reason}])
    place = RowPlace(Shard(name="part-0", turn=0, rows_per_part=1, slices=[]), 3)
    assert await work.answered({"n": 1}, None, place, {3: "it blocked"}, 1) == [{"n": 1, "error": "it blocked"}]


HELD = """
import asyncio, json, sys, time
from pathlib import Path
from s2d_ray.stages.held_loop import leave_if_held, work_on

def mark(row, reason):
    Path(sys.argv[1]).write_text(json.dumps([row, reason]))

async def other(row):
    work_on(row)
    while True:
        await asyncio.sleep(0.01)

async def bad(row):
    work_on(row)
    await asyncio.sleep(0.2)
    await asyncio.gather(other(row), block())  # In a task of its own, as a method's samples are.

async def block():
    await asyncio.sleep(0.1)
    {way}

async def main():
    leave_if_held(1.0, mark)
    await asyncio.gather(other("good"), bad("bad"), asyncio.sleep(60))

{run}
"""
DEFAULT = "asyncio.run(main())"
RUNS = {"asyncio": DEFAULT, "uvloop": "import uvloop; uvloop.run(main())"}


@pytest.mark.slow
@pytest.mark.parametrize("loop", RUNS)
@pytest.mark.parametrize("way", ["time.sleep(60)", "while True: pass"])
def test_a_loop_that_is_held_names_the_row_that_holds_it(way: str, loop: str, tmp_path: Path) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    code = HELD.format(way=way, run=RUNS[loop])
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "mark")], timeout=300)
    assert done.returncode == 1
    reason = "its code held up all other rows for 1 s: await there, or asyncio.to_thread"
    assert read_json(tmp_path / "mark") == ["bad", reason]


MANY = """
import asyncio, sys, time
from pathlib import Path
from s2d_ray.stages.held_loop import leave_if_held, work_on

async def step(row):
    work_on(row)
    await asyncio.sleep(0)
    time.sleep(0.1)

async def main():
    leave_if_held(0.5, lambda row, reason: Path(sys.argv[1]).write_text(row))
    await asyncio.gather(*(step(str(row)) for row in range(20)))

asyncio.run(main())
"""


@pytest.mark.slow
def test_many_short_steps_in_one_turn_of_the_loop_are_no_rows_fault(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path / "mark")], timeout=300)
    assert (done.returncode, (tmp_path / "mark").exists()) == (0, False)


async def test_a_task_that_is_given_an_empty_context_has_it() -> None:
    async def seen() -> str:
        return variable.get("nothing")

    variable = ContextVar[str]("variable")
    variable.set("the caller's")
    end_watch = leave_if_held(60, lambda row, reason: None)
    assert await asyncio.create_task(seen(), context=Context()) == "nothing"
    end_watch()
