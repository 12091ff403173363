"""Scripts for the scripted engine, named in the recipes of tests."""

import re
import time
from collections.abc import Sequence
from random import Random

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Ballot, Kept, Rejected
from s2d_ray.records import Message, Prompt, user
from s2d_ray.system2.program import Generate
from s2d_ray.tasks.task import Task


def oracle(messages: Sequence[Message], random: Random) -> str:
    """Rewrites by dropping the opinion; answers by the question's own letters, wrongly in one of five samples."""
    text = messages[-1]["content"]
    if text.startswith("Rewrite"):
        return next(part for part in re.split(r"(?<=[.?]) |\n", text) if part.endswith("?"))
    return "unsure" if random.random() < 0.2 else f"answer {len(text) % 7}"


def slow_oracle(messages: Sequence[Message], random: Random) -> str:
    """As `oracle`, slowly enough to be killed on the way."""
    time.sleep(0.01)
    return oracle(messages, random)


def failing_on_seven(messages: Sequence[Message], random: Random) -> str:
    """Raises for every prompt with a 7 in it."""
    if "7" in messages[-1]["content"]:
        raise ValueError("seven is not to be had")
    return oracle(messages, random)


def always_failing(messages: Sequence[Message], random: Random) -> str:
    """Raises for every prompt."""
    raise ValueError("out of order")


async def ask_twice(prompt: Prompt, generate: Generate) -> str:
    """A method of a user's own: asks, and asks again what it was told."""
    [first] = await generate(prompt.messages, step="first")
    [second] = await generate([user(first.text)], step="second")
    return second.text


class SlowRule(Majority):
    """Majority, slowly enough to be killed on the way."""

    async def decide(self, ballot: Ballot, kept: Kept | None, task: Task, generate: Generate | None) -> Kept | Rejected:
        time.sleep(0.05)
        return await super().decide(ballot, kept, task, generate)
