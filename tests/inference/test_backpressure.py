"""How many rows are let in, and what happens to a call that takes too long. The scripted engine alone, no Ray."""

import asyncio
import time
from collections.abc import Sequence
from random import Random

import pytest

from s2d_ray.data.records import Message, user
from s2d_ray.inference.backpressure import TURNS_TO_FIRST_CALL, Backpressure
from s2d_ray.inference.engine import EngineDied, EngineError
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.inference.timed import TimedEngine
from s2d_ray.recipes.sections import Engine, Sampling


async def slow(messages: Sequence[Message], random: Random) -> str:
    """Takes as many seconds as it is told."""
    await asyncio.sleep(float(messages[-1]["content"]))
    return "done"


def engine_of(max_sequences: int) -> ScriptedEngine:
    return ScriptedEngine(Engine(kind="scripted", script=f"{__name__}:slow", max_sequences=max_sequences))


async def ask(engine: ScriptedEngine | TimedEngine, seconds: float, n: int = 1) -> str:
    answers = await engine.complete([user(str(seconds))], Sampling(), n, seed=0)
    return answers[0].text


async def through(engine: ScriptedEngine, backpressure: Backpressure, calls: int) -> tuple[int, int]:
    """Of 40 rows, of so many calls each: the most rows that were inside at once, and the most of their calls."""
    inside, most_inside, most_calls = 0, 0, 0

    async def row() -> None:
        nonlocal inside
        await ask(engine, 0.05, calls)
        inside -= 1
        backpressure.leave()

    rows = []
    for _ in range(40):
        await backpressure.enter()
        inside += 1
        rows.append(asyncio.create_task(row()))
        for _ in range(TURNS_TO_FIRST_CALL):
            await asyncio.sleep(0)
        activity = engine.activity()
        most_inside, most_calls = max(most_inside, inside), max(most_calls, activity.running + activity.waiting)
    await asyncio.gather(*rows)
    return most_inside, most_calls


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 4])
async def test_rows_enter_until_a_whole_batch_waits(calls: int) -> None:
    engine = engine_of(max_sequences=4)
    _, most_calls = await through(engine, Backpressure(engine, max_rows=100, max_sequences=4), calls)
    # 4 that run and 4 that wait.
    assert most_calls == 8


async def test_rows_are_never_more_than_allowed() -> None:
    engine = engine_of(max_sequences=4)
    most_inside, _ = await through(engine, Backpressure(engine, max_rows=3, max_sequences=4), calls=1)
    assert most_inside == 3


async def test_an_engine_tells_what_runs_and_what_waits() -> None:
    engine = engine_of(max_sequences=2)
    calls = [asyncio.create_task(ask(engine, 0.05, n=3)), asyncio.create_task(ask(engine, 0.05))]
    await asyncio.sleep(0.01)
    assert (engine.activity().running, engine.activity().waiting) == (2, 2)
    before = time.monotonic()
    await asyncio.gather(*calls)
    assert (engine.activity().running, engine.activity().waiting) == (0, 0)
    assert engine.activity().progressed > before


async def test_a_slow_call_fails_alone_and_gives_its_place_back() -> None:
    engine = engine_of(max_sequences=2)
    timed = TimedEngine(engine, seconds=0.5)
    slow_call = asyncio.create_task(ask(timed, 60))
    for _ in range(3):
        assert await ask(timed, 0.1) == "done"
    with pytest.raises(EngineError, match=r"no answer within 0\.5 s \(engine\.call_timeout\)"):
        await slow_call
    assert (engine.activity().running, engine.activity().waiting) == (0, 0)
    assert {*await asyncio.gather(ask(timed, 0.1), ask(timed, 0.1))} == {"done"}


async def test_an_engine_that_gives_nothing_at_all_counts_as_dead() -> None:
    timed = TimedEngine(engine_of(max_sequences=1), seconds=0.3)
    assert await ask(timed, 0.1) == "done"
    calls = await asyncio.gather(*(ask(timed, 60) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in calls] == [EngineDied] * 3
    assert "gave no token for 0.3 s" in str(calls[0])


def paced(messages: Sequence[Message], random: Random) -> str:
    """So many words."""
    return "word " * int(messages[-1]["content"])


async def texts(engine: TimedEngine, words: int) -> list[str]:
    """What comes before the completion itself."""
    pieces = [piece async for piece in engine.stream([user(str(words))], Sampling(max_tokens=1000), seed=0)]
    return [piece for piece in pieces if isinstance(piece, str)]


@pytest.mark.slow
async def test_a_stream_has_the_time_of_a_call() -> None:
    engine = ScriptedEngine(Engine(kind="scripted", script=f"{__name__}:paced", max_sequences=1, token_seconds=0.02))
    timed = TimedEngine(engine, seconds=2)
    assert await texts(timed, 3) == ["word", " word", " word "]
    with pytest.raises(EngineError, match="no answer within 2 s"):
        await texts(timed.adapted(), 1000)
    # Its place is free again, and a reader takes as long as it likes.
    stream = timed.stream([user("1")], Sampling(), seed=0)
    assert await anext(stream) == "word "
    await asyncio.sleep(2.1)
    await stream.aclose()
    assert (engine.activity().running, engine.activity().waiting) == (0, 0)


@pytest.mark.slow
async def test_an_engine_is_alive_until_it_is_asked_and_stands_still() -> None:
    timed = TimedEngine(engine_of(max_sequences=1), seconds=3)
    await asyncio.sleep(3.1)
    first = asyncio.create_task(ask(timed, 60))
    await asyncio.sleep(1.5)
    assert timed.alive
    second = asyncio.create_task(ask(timed, 60))
    await asyncio.sleep(0)
    first.cancel()
    while timed.alive:
        # The second's own time is not over: what counts is since when there was no token.
        assert not second.done()
        await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.sleep(0.01)
    assert await ask(timed, 0.01) == "done"
    assert timed.alive
