"""The engine of trials: how likely it finds a reply, and which model a script is told of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from s2d_ray.data.records import Message, assistant, user
from s2d_ray.inference.scripted import LIKELY, UNLIKELY, ScriptedEngine
from s2d_ray.inference.timed import TimedEngine
from s2d_ray.recipes.chat import Chat
from s2d_ray.recipes.sections import Engine, Sampling


def named(messages: Sequence[Message], random: Random, model: Path) -> str:
    """Says which model it stands for."""
    return f"I am {model.name}"


@pytest.mark.parametrize(
    ("reply", "likely"),
    [
        ("I am one", [1, 1, 1, 1]),
        ("I am two", [1, 1, 0, 1]),
        ("I am", [1, 1, 0]),
        ("I am one now", [1, 1, 1, 0, 1]),
        ("", [0]),
    ],
)
async def test_a_reply_is_as_likely_as_the_script_says_it(reply: str, likely: list[int], tmp_path: Path) -> None:
    engine = TimedEngine(ScriptedEngine(Engine(script=f"{__name__}:named"), tmp_path / "one"), 5)
    scores = await engine.score([user("Who?"), assistant(reply)])
    assert scores == [LIKELY if each else UNLIKELY for each in likely]


async def test_a_script_that_asks_is_told_which_model_is_loaded(tmp_path: Path) -> None:
    engine = ScriptedEngine(Engine(script=f"{__name__}:named"), tmp_path / "one")
    for name in ("one", "two"):
        await engine.load(tmp_path / name)
        [said] = await engine.complete([user("Who?")], Sampling(), 1, 0)
        assert said.text == f"I am {name}"


def thinking(messages: Sequence[Message], random: Random, template: Mapping[str, object], thinking: bool) -> str:
    """Thinks where it shall, of what its template would be told."""
    thought = f"<think>\n{dict(template)} one two\n</think>\n\n" if thinking else ""
    return f"{thought}It is so. And more."


@pytest.mark.parametrize(
    ("sampling", "thought", "text", "end"),
    [
        ({}, "", "It is so. And more.", ("stop", 5)),
        ({"thinking": True}, "{'a': 1} one two", "It is so. And more.", ("stop", 9)),
        ({"template": {"enable_thinking": True, "a": 2}}, "{'a': 2, 'enable_thinking': True} one two", None, None),
        ({"template": {"thinking": True}, "thinking": False}, "", None, None),
        ({"thinking": True, "thinking_tokens": 3}, "{'a': 1} one", "It is so. And more.", ("stop", 8)),
        ({"thinking": True, "thinking_tokens": 0}, "", "It is so. And more.", ("stop", 5)),
        ({"thinking": True, "max_tokens": 3}, "{'a': 1} one", "", ("length", 3)),
        ({"thinking": True, "max_tokens": 6}, "{'a': 1} one two", "It is", ("length", 6)),
        # A stop text ends what is said, not a thought.
        ({"thinking": True, "stop": ["one", "."]}, "{'a': 1} one two", "It is so", ("stop", 7)),
    ],
)
async def test_a_thought_of_a_script_is_apart_from_its_text(
    sampling: dict[str, object], thought: str, text: str | None, end: tuple[str, int] | None
) -> None:
    engine = ScriptedEngine(Engine(script=f"{__name__}:thinking"), chat=Chat(arguments={"a": 1}))
    asked = Sampling.model_validate(sampling)
    [said] = await engine.complete([user("Is it?")], asked, 1, 0)
    assert said.thought == thought
    assert text is None or said.text == text
    assert end is None or (said.finish_reason, said.completion_tokens) == end
    *pieces, last = [piece async for piece in engine.stream([user("Is it?")], asked, 0)]
    assert last == said
    assert "".join(map(str, pieces)) == said.text


async def test_a_reply_is_scored_against_what_the_script_says_after_a_thought() -> None:
    engine = ScriptedEngine(Engine(script=f"{__name__}:thinking"), chat=Chat(arguments={"thinking": True}))
    assert await engine.score([user("Is it?"), assistant("It is so. And more.")]) == [LIKELY] * 6
