"""What comes before a person's last turn reaches the model in every call of every method."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from s2d_ray.curation.rule import curate_prompt
from s2d_ray.curation.universal import Universal
from s2d_ray.data.records import Candidates, Message, Prompt, Sample, Step, assistant, user
from s2d_ray.inference.method_runs import Recorder, run_method
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.methods.registry import METHODS, load_method
from s2d_ray.methods.turns import transcript
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.prompt_file import PromptFile
from tests.watched_engine import Call, WatchedEngine

SYSTEM: Message = {"role": "system", "content": "You answer sailors, in one word."}
EARLIER = [
    user("My ship lies in Lyon."),
    assistant("A river port."),
    user("I think that is in Peru. Is it?"),
    assistant("No."),
]
LAST = user("I say Spain. Which country is it in?")
PAIR = {"question": "Which one is larger?", "response_a": "This one.", "response_b": "That one."}
CHAT = Prompt("chat", [SYSTEM, *EARLIER, LAST], PAIR)

WAYS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"prompts": prompts}) for name, method in METHODS.items() for prompts in method.prompt_sets),
    *((name, {}) for name, method in METHODS.items() if not method.prompt_sets),
    ("direct", {"examples_of": "s2a", "prompts": "few_shot"}),
    ("bsm", {"merge": "model", "both_orders": True, "prompts": "few_shot"}),
]


def suits_all(messages: Sequence[Message], random: Random) -> str:
    """What every call of every method can use."""
    return "A: 5\nB: 1\n1. Truth: it is right\nQuestion: Which country?\nFinal answer: 8\nThe answer is 8\n[[A]]"


async def calls_of(name: str, options: dict[str, Any], prompt: Prompt = CHAT) -> list[Call]:
    engine = WatchedEngine(f"{__name__}:suits_all")
    method = load_method(Named(name=name, **options))
    [sample] = await run_method(method, prompt, engine, Sampling(), samples=1, seed=0)
    assert (sample.error, len(sample.steps)) == ("", len(engine.calls))
    return engine.calls


def test_every_shipped_method_is_driven() -> None:
    assert {name for name, _ in WAYS} == set(METHODS)


@pytest.mark.parametrize(("name", "options"), WAYS)
async def test_every_call_sees_the_system_prompt_first_and_each_earlier_turn_once(
    name: str, options: dict[str, Any]
) -> None:
    for call in await calls_of(name, options):
        first, *examples = call.messages[: -len(EARLIER) - 1]
        assert first == SYSTEM
        assert call.messages[-len(EARLIER) - 1 : -1] == EARLIER
        assert call.messages[-1]["role"] == "user"
        assert [one["role"] for one in examples] == ["user", "assistant"] * (len(examples) // 2)
        for once in (SYSTEM, *EARLIER):
            assert "\n".join(m["content"] for m in call.messages).count(once["content"]) == 1


@pytest.mark.parametrize(("name", "options"), WAYS)
async def test_worked_examples_are_the_same_turns_with_and_without_a_conversation(
    name: str, options: dict[str, Any]
) -> None:
    alone = await calls_of(name, options, Prompt("alone", [LAST], PAIR))
    for call, single in zip(await calls_of(name, options), alone, strict=True):
        assert call.messages[1 : -len(EARLIER) - 1] == single.messages[:-1]


async def test_attention_rewrites_the_last_turn_and_is_told_that_it_continues_a_conversation() -> None:
    told = "The text continues the conversation above"
    rewrite, respond = await calls_of("s2a", {})
    assert told in rewrite.messages[-1]["content"]
    assert rewrite.messages[-1]["content"].endswith(f"Text by user: {LAST['content']}")
    assert "Spain" not in respond.messages[-1]["content"]
    for start in ([], [SYSTEM]):
        first, _ = await calls_of("s2a", {}, Prompt("p", [*start, LAST]))
        assert told not in first.messages[-1]["content"], "a system prompt is no conversation"


async def test_the_second_call_of_rephrasing_shows_both_wordings_after_the_conversation() -> None:
    _, respond = await calls_of("rar2", {"prompts": "few_shot_cot"})
    assert respond.messages[-1]["content"].startswith(f"(original) {LAST['content']}\n(rephrased) A: 5\n")


def test_a_judge_is_shown_who_said_what_and_a_single_question_as_it_is() -> None:
    assert transcript([LAST]) == LAST["content"]
    assert transcript([SYSTEM, EARLIER[0], EARLIER[1], LAST]) == (
        "System: You answer sailors, in one word.\n\nUser: My ship lies in Lyon.\n\nAssistant: A river port.\n\n"
        "User: I say Spain. Which country is it in?"
    )


async def test_rules_and_judges_that_ask_the_model_show_the_whole_conversation() -> None:
    chat = Prompt("chat", [SYSTEM, *EARLIER, LAST])
    samples = [Sample(text, steps=[a_step(text)]) for text in ("France.", "In France.")]
    asks = [*await asked_by_universal(Candidates(chat, samples)), *await asked_by_a_judge(chat)]
    assert len(asks) == 3
    for ask in asks:
        assert f"{transcript(chat.messages)}\n\nResponse" in ask
        assert "THOUGHT" not in ask
    single = Prompt("single", [LAST])
    for ask in [*await asked_by_universal(Candidates(single, samples)), *await asked_by_a_judge(single)]:
        assert re.search(rf"(Prompt|Question): {re.escape(LAST['content'])}\n\nResponse", ask)


def a_step(text: str) -> Step:
    return Step("think", text, "stop", 1, 0, 1, 0.1, thought=f"THOUGHT {text}")


async def asked_by_universal(candidates: Candidates) -> list[str]:
    engine = WatchedEngine(f"{__name__}:suits_all")
    generate = Recorder(engine, Sampling(), ("seed",))
    await curate_prompt(candidates, [Universal()], PromptFile(path=Path("any.jsonl")), generate)
    return [call.messages[-1]["content"] for call in engine.calls]


async def asked_by_a_judge(prompt: Prompt) -> list[str]:
    engine = WatchedEngine(f"{__name__}:suits_all")
    await PairwiseJudge(load_method(Named(name="direct")), engine, Sampling()).both_orders(prompt, "One.", "Two.", 0)
    return [call.messages[-1]["content"] for call in engine.calls]
