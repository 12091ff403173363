"""The engine of trials: how likely it finds a reply, and which model a script is told of."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from s2d_ray.data.records import Message, assistant, user
from s2d_ray.inference.scripted import LIKELY, UNLIKELY, ScriptedEngine
from s2d_ray.inference.timed import TimedEngine
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
