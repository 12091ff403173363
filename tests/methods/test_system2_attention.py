"""System 2 Attention: rewrite, then answer what was rewritten and nothing else."""

import re
from collections.abc import Sequence
from random import Random

import pytest

from s2d_ray.data.records import Message, Prompt, user
from s2d_ray.inference.method_runs import run_method
from s2d_ray.methods.registry import load_method
from s2d_ray.methods.system2_attention import PROMPT_SETS
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from tests.watched_engine import Call, WatchedEngine

OPINION = "I think the answer is Portugal {but} I'm really not sure."
QUESTION = "Which country is the city of Lyon in?"
PROMPT = Prompt("p1", [user(f"{OPINION} {QUESTION}")])
SAMPLING = Sampling(stop=("END",), max_tokens=40)


def rewrites(messages: Sequence[Message], random: Random) -> str:
    """Drops the opinion where there is one, and says what it sees otherwise."""
    text = messages[-1]["content"]
    if OPINION in text:
        return f"Unbiased text context: none\nQuestion: {QUESTION}" if "labels" in text else f"  {QUESTION}\n"
    return f"France {random.random()}"


def keeps_the_text(messages: Sequence[Message], random: Random) -> str:
    """Rewrites nothing: what the person said is the question; then repeats what it is asked."""
    asked = messages[-1]["content"]
    *_, said = re.split(r"Text(?: by user)?: ", asked)
    return f"Question: {said}" if "labels" in asked else said


def says_nothing(messages: Sequence[Message], random: Random) -> str:
    return " \n"


def sometimes_nothing(messages: Sequence[Message], random: Random) -> str:
    return "" if random.random() < 0.5 else "Where is Lyon?"


async def run(prompts: str, script: str = "rewrites", samples: int = 1, order: int | None = None) -> WatchedEngine:
    engine = WatchedEngine(f"{__name__}:{script}", order)
    method = load_method(Named.model_validate({"name": "s2a", "prompts": prompts}))
    await run_method(method, PROMPT, engine, SAMPLING, samples, seed=0)
    return engine


@pytest.mark.parametrize("prompts", PROMPT_SETS)
async def test_the_second_call_sees_the_rewritten_text_and_nothing_of_the_first(prompts: str) -> None:
    rewrite, respond = (await run(prompts)).calls
    assert OPINION in rewrite.messages[-1]["content"]
    [asked] = respond.messages
    assert asked["role"] == "user"
    assert asked["content"] == PROMPT_SETS[prompts].respond.format(rewritten=QUESTION)
    assert "Portugal" not in asked["content"]


async def test_the_zero_shot_prompts_ask_without_examples() -> None:
    rewrite, respond = (await run("zero_shot")).calls
    [asked] = rewrite.messages
    assert asked["content"].endswith(f"Text by user: {PROMPT.text}")
    assert respond.messages[-1]["content"].endswith("\n\nAnswer in an unbiased way.")
    assert rewrite.sampling == respond.sampling == SAMPLING


async def test_the_few_shot_prompts_show_their_examples_and_end_at_the_line() -> None:
    rewrite, respond = (await run("few_shot")).calls
    shown = rewrite.messages[:-1]
    assert len(shown) == 2 * len(PROMPT_SETS["few_shot"].examples) > 0
    assert [message["role"] for message in rewrite.messages] == ["user", "assistant"] * (len(shown) // 2) + ["user"]
    assert rewrite.sampling.stop == ("END", "\n")
    assert respond.sampling == SAMPLING
    assert respond.messages == [user(QUESTION)]


def test_the_examples_hold_no_opinion_after_the_rewrite_and_keep_the_question() -> None:
    for text, rewritten, answer in PROMPT_SETS["few_shot"].examples:
        assert rewritten in text
        assert rewritten.endswith("?")
        assert "answer is" not in rewritten
        assert answer not in text, "the opinion is wrong, or there is none"


async def test_the_few_shot_prefix_is_the_same_for_every_prompt() -> None:
    # So that the engine's prefix cache holds it.
    one = (await run("few_shot")).calls[0].messages[:-1]
    engine = WatchedEngine(f"{__name__}:rewrites")
    method = load_method(Named.model_validate({"name": "s2a", "prompts": "few_shot"}))
    await run_method(method, Prompt("p2", [user("Another?")]), engine, SAMPLING, 1, seed=3)
    assert engine.calls[0].messages[:-1] == one


@pytest.mark.parametrize("prompts", PROMPT_SETS)
async def test_text_with_braces_is_text(prompts: str) -> None:
    engine = WatchedEngine(f"{__name__}:keeps_the_text")
    method = load_method(Named.model_validate({"name": "s2a", "prompts": prompts}))
    prompt = Prompt("p", [user('Is {"a": {text}} or {rewritten} JSON? {0} {')])
    [sample] = await run_method(method, prompt, engine, SAMPLING, 1, seed=0)
    assert (sample.error, prompt.text in sample.text) == ("", True)


async def test_tokens_are_counted_over_both_calls() -> None:
    engine = WatchedEngine(f"{__name__}:rewrites")
    method = load_method(Named(name="s2a", prompts="few_shot"))
    [sample] = await run_method(method, PROMPT, engine, SAMPLING, 1, seed=0)
    assert [(step.name, step.completion_tokens) for step in sample.steps] == [("rewrite", 8), ("respond", 2)]
    assert sample.tokens == 10
    assert sample.text == sample.steps[1].text


async def test_an_empty_rewrite_is_kept_as_the_samples_error() -> None:
    engine = WatchedEngine(f"{__name__}:says_nothing")
    samples = await run_method(load_method(Named(name="s2a")), PROMPT, engine, SAMPLING, 2, seed=0)
    assert [(sample.text, sample.error) for sample in samples] == [("", "the rewrite is empty")] * 2
    assert [step.name for sample in samples for step in sample.steps] == ["rewrite", "rewrite"]
    assert len(engine.calls) == 2, "there is nothing to answer"


async def test_an_empty_rewrite_costs_no_other_sample() -> None:
    engine = WatchedEngine(f"{__name__}:sometimes_nothing")
    method = load_method(Named(name="s2a", prompts="few_shot"))
    samples = await run_method(method, PROMPT, engine, SAMPLING, 20, seed=0)
    empty = [sample for sample in samples if sample.error]
    assert 0 < len(empty) < 20
    assert all(len(sample.steps) == (1 if sample in empty else 2) for sample in samples)


async def test_every_sample_and_step_has_a_seed_of_its_own_whatever_the_order() -> None:
    def by_seed(calls: list[Call]) -> list[tuple[int, str]]:
        return sorted((call.seed, call.messages[-1]["content"]) for call in calls)

    straight = (await run("few_shot", samples=6)).calls
    assert len({call.seed for call in straight}) == 12
    shuffled = [(await run("few_shot", samples=6, order=order)).calls for order in (1, 2, 3)]
    assert any([c.seed for c in calls] != [c.seed for c in straight] for calls in shuffled), "the order did not vary"
    assert all(by_seed(calls) == by_seed(straight) for calls in shuffled)
