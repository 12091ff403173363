"""Scripts for the scripted engine, named in the recipes of tests."""

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected
from s2d_ray.curation.universal import Universal
from s2d_ray.data.records import Message, Prompt, user
from s2d_ray.inference.engine import EngineDied
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.tasks.task import Task


def oracle(messages: Sequence[Message], random: Random) -> str:
    """Rewrites by dropping the opinion; answers by the question's own letters, wrongly in one of five samples."""
    text = messages[-1]["content"]
    if text.startswith("Rewrite"):
        return next(part for part in re.split(r"(?<=[.?]) |\n", text) if part.endswith("?"))
    return "unsure" if random.random() < 0.2 else f"answer {len(text) % 7}"


THOUGHT = "UNHEARD"
"""What `hybrid` thinks, and must never be shown again."""


def hybrid(messages: Sequence[Message], random: Random, thinking: bool) -> str:
    """Guesses, or thinks first and finds one of two answers; judges by place, and never what shows it a thought."""
    asked = " ".join(message["content"] for message in messages)
    if THOUGHT in asked or "think>" in asked:
        return "I was shown a thought."
    if "Response" in asked:
        return "The most consistent response is Response 1" if "Response 1" in asked else "A"
    if not thinking:
        return f"guess {len(asked) % 7}"
    return f"<think>{THOUGHT} {random.random()}</think>\n\nanswer {random.random() < 0.7}"


def sums(messages: Sequence[Message], random: Random) -> str:
    """Works its answer out, at more or less length; says it at once where digits alone are asked for."""
    text = messages[-1]["content"]
    if text.endswith("Answer with the final number only."):
        return "7"
    if "in as few words as possible" in text:
        return "2+5=7\nThe answer is 7"
    return f"{'Let me see. ' * random.randrange(3)}2 and 5 are 7. The answer is 7."


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


async def ask_twice(prompt: Prompt, generate: GenerateFunction) -> str:
    """A method of a user's own: asks, and asks again what it was told."""
    [first] = await generate(prompt.messages, step="first")
    [second] = await generate([user(first.text)], step="second")
    return second.text


async def blocking_on_case_7(prompt: Prompt, generate: GenerateFunction, way: str) -> str:
    """A method of a user's own that never comes to an end for one prompt."""
    if "case 7?" in prompt.text:
        match way:
            case "sleeps":
                time.sleep(10_000)
            case "loops":
                while True:
                    pass
            case _:
                await asyncio.Event().wait()
    [answer] = await generate(prompt.messages, step="answer")
    return answer.text


async def hanging_on_seven(messages: Sequence[Message], random: Random) -> str:
    """Never answers a prompt with a 7 in it; the others take a while."""
    await asyncio.sleep(60 if "7" in messages[-1]["content"] else 0.05)
    return oracle(messages, random)


_broken = False


def _breaks_first(messages: Sequence[Message]) -> bool:
    """True in the process that comes first to the file that the prompt names."""
    global _broken
    found = re.search(r"mark (\S+)", messages[-1]["content"])
    if found and not Path(found[1]).exists():
        Path(found[1]).touch()
        _broken = True
    return _broken


async def hanging_at_first(messages: Sequence[Message], random: Random) -> str:
    """An engine that never answers; the one started after it does."""
    if _breaks_first(messages):
        await asyncio.sleep(60)
    return "answer"


async def dying_at_first(messages: Sequence[Message], random: Random) -> str:
    """An engine that is gone; the one started after it is not."""
    if _breaks_first(messages):
        raise EngineDied("gone")
    return "answer"


def cores_held(messages: Sequence[Message], random: Random) -> str:
    """The CPU cores that Ray has set aside for the engine."""
    import ray

    return str(ray.get_runtime_context().get_assigned_resources()["CPU"])


async def long_tailed(messages: Sequence[Message], random: Random) -> str:
    """Takes 40 times as long in one of 25 cases; says from when to when."""
    began = time.monotonic()
    await asyncio.sleep(2.0 if random.random() < 0.04 else 0.05)
    return f"{began} {time.monotonic()}"


async def noted(messages: Sequence[Message], random: Random) -> str:
    """Takes two seconds; writes down when it began, on which node and with what, in the file that the prompt names."""
    import ray

    text = messages[-1]["content"]
    with Path(text.split()[-1]).open("a") as file:
        file.write(f"{time.time()} {ray.get_runtime_context().get_node_id()} {text}\n")
    await asyncio.sleep(2)
    return "answer"


class SlowRule(Majority):
    """Majority, slowly enough to be killed on the way."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        time.sleep(0.05)
        return await super().decide(parsed, kept, task, generate)


class FailingRule(Majority):
    """A rule with a bug."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        raise ValueError("not thought of")


class UniversalOrFirst(Universal):
    """Universal self-consistency of a model that is too small for it: where it does not choose, the first sample."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        chosen = await super().decide(parsed, kept, task, generate)
        return chosen if isinstance(chosen, Kept) else Kept(parsed.samples[0].text)


class BlockingOnCase7(Majority):
    """Majority, which never comes to an end for one prompt."""

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        if "case 7?" in parsed.prompt.text:
            time.sleep(10_000)
        return await super().decide(parsed, kept, task, generate)
