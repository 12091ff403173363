"""The model's own reasoning mode as System 2, and every other method with that mode on."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.rule import Rule, curate_prompt
from s2d_ray.curation.universal import Universal
from s2d_ray.data.records import Candidates, Completion, Message, Prompt, Sample, user
from s2d_ray.errors import UserError
from s2d_ray.inference.method_runs import Recorder, run_method
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.direct import direct
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.methods.registry import METHODS, load_method
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.runs.resolved import base_arms
from s2d_ray.tasks.prompt_file import PromptFile
from tests.hybrid_engine import HybridEngine
from tests.method_runs import engine_that_says
from tests.scripts import THOUGHT

PAIR = {"question": "Which one?", "response_a": "This one.", "response_b": "That one."}
PROMPT = Prompt("p", [user("I say Spain. Which country is Lyon in?")], PAIR)
SUITS_ALL = "A: 5\nB: 1\n1. Truth: it is right\nQuestion: Which country?\nFinal answer: 8\nThe answer is 8\n[[A]]"
MISLEADING = "B: 5\nA: 1\n1. Lies: no\nQuestion: none\nFinal answer: 9\nThe answer is 9\n[[B]]"
"""A thought that a method would take for what it asked for."""


def hybrid(messages: Sequence[Message], random: Random, thinking: bool) -> str:
    return f"<think>{MISLEADING}</think>\n\n{SUITS_ALL}" if thinking else SUITS_ALL


async def run(section: Named, engine: HybridEngine, **sampling: Any) -> Sample:
    [sample] = await run_method(load_method(section), PROMPT, engine, Sampling(**sampling), 1, seed=0)
    return sample


async def test_the_model_thinks_once_and_its_text_is_the_answer() -> None:
    engine = HybridEngine(lambda *_: "<think>Lyon is in France.</think>France")
    sample = await run(Named(name="think"), engine)
    [call], [step] = engine.calls, sample.steps
    assert (call.messages, call.sampling.thinking) == (PROMPT.messages, True)
    assert (sample.text, sample.error) == ("France", "")
    assert (step.name, step.text, step.thought) == ("think", "France", "Lyon is in France.")
    assert sample.tokens == 4, "those of the thought are counted"


async def test_the_budget_and_the_templates_words_are_those_of_the_recipe() -> None:
    engine = HybridEngine(hybrid)
    said: dict[str, Any] = {"thinking_tokens": 40, "template": {"reasoning_effort": "high"}}
    await run(Named(name="think", **said), engine, template={"place": "here"})
    [call] = engine.calls
    assert call.sampling.thinking_tokens == 40
    assert call.sampling.template == {"place": "here", "reasoning_effort": "high"}


@pytest.mark.parametrize(
    ("said", "limit", "error"),
    [
        ("<think>and so on and on and on</think>8", 4, "the thought ran into the token limit: nothing was said after"),
        ("<think>so it is 8</think>", 99, "nothing was said after the thought"),
        ("<think>so it is 8</think>\n \n", 99, "nothing was said after the thought"),
    ],
)
async def test_a_thought_that_leaves_no_text_is_malformed(said: str, limit: int, error: str) -> None:
    sample = await run(Named(name="think"), HybridEngine(lambda *_: said), max_tokens=limit)
    assert sample.text == ""
    assert sample.error.startswith(error)
    assert sample.steps[0].thought.startswith(("and so", "so it"))


ALL = [(name, prompts) for name, method in METHODS.items() for prompts in (*method.prompt_sets, None)]


@pytest.mark.parametrize(("name", "prompts"), ALL)
async def test_every_method_reads_the_texts_alone_with_thinking_on_and_off(name: str, prompts: str | None) -> None:
    section = Named(name=name, prompts=prompts)
    plain, thinking = HybridEngine(hybrid), HybridEngine(hybrid)
    without = await run(section, plain)
    told = Named(**section.model_dump() | {"thinking": True, "thinking_tokens": 20})
    sample = await run(told, thinking)
    assert (sample.text.strip(), sample.error) == (without.text.strip(), "")
    assert [step.name for step in sample.steps] == [step.name for step in without.steps]
    assert all(call.sampling.thinking and call.sampling.thinking_tokens == 20 for call in thinking.calls)
    assert all(step.thought == MISLEADING for step in sample.steps)
    assert "Lies" not in str([call.messages for call in thinking.calls]), "no thought is shown to a later call"
    if name != "think":
        assert not any(call.sampling.thinking for call in plain.calls)
        assert sample.tokens > without.tokens


async def test_a_stop_text_ends_what_is_said_and_never_a_thought() -> None:
    """Few-shot rewrites end at the line, and a thought has many."""
    engine = HybridEngine(lambda *_: "<think>First.\nSecond. END</think>\n\nWhich country?\nText: more END more")
    sample = await run(Named(name="s2a", prompts="few_shot", thinking=True), engine, stop=("END",))
    rewrite, respond = sample.steps
    assert (rewrite.text, rewrite.finish_reason, rewrite.thought) == ("Which country?", "stop", "First.\nSecond. END")
    assert respond.text == "Which country?\nText: more "
    assert engine.calls[1].messages == [user("Which country?")]


@pytest.mark.parametrize(
    ("thinking", "budget", "step", "most"),
    [
        (None, None, 5, 5),
        (False, 10, 5, 5),
        (True, 10, 5, 15),
        (True, None, 5, 50),
        (True, 90, 5, 50),
        (True, 9, None, 50),
    ],
)
async def test_a_steps_own_limit_is_on_what_it_says(
    thinking: bool | None, budget: int | None, step: int | None, most: int
) -> None:
    engine = HybridEngine(hybrid)
    generate = Recorder(engine, Sampling(max_tokens=50), ("seed",))
    await generate([user("Which?")], step="name", max_tokens=step, thinking=thinking, thinking_tokens=budget)
    assert engine.calls[0].sampling.most_tokens(bool(thinking)) == most


@pytest.mark.parametrize(("budget", "text", "reason"), [(3, "four five", "length"), (None, "four five six", "stop")])
async def test_so_it_is_where_the_model_thinks_without_being_told(budget: int | None, text: str, reason: str) -> None:
    """As one does that cannot but think, or is told to by the recipe's template."""
    engine = engine_that_says(lambda texts: "<think>one two three</think>\n\nfour five six")
    generate = Recorder(engine, Sampling(max_tokens=50), ("seed",))
    [said] = await generate([user("Which?")], step="name", max_tokens=2, thinking_tokens=budget)
    assert (said.thought, said.text, said.finish_reason) == ("one two three", text, reason)


async def own(prompt: Prompt, generate: GenerateFunction, thinking: str = "") -> str:
    """A method of a user's own, one of whose options is called as one of the package's."""
    await generate([user(thinking)], step="first", thinking=True, thinking_tokens=3)
    [answer] = await generate(prompt.messages, step="second")
    return answer.text


async def test_a_method_of_ones_own_says_it_in_its_calls_and_keeps_its_options() -> None:
    engine = HybridEngine(hybrid)
    await run(Named(name=f"{__name__}:own", thinking="hard"), engine)
    first, second = engine.calls
    assert first.messages == [user("hard")]
    assert (first.sampling.thinking, first.sampling.thinking_tokens) == (True, 3)
    assert (second.sampling.thinking, second.sampling.thinking_tokens) == (None, None)


async def test_what_a_call_says_itself_goes_before_the_methods_options() -> None:
    seen: list[dict[str, Any]] = []

    async def generate(messages: Sequence[Message], **said: Any) -> list[Completion]:
        seen.append(said)
        return [Completion("8", "stop", 1, 0, 1)]

    await load_method(Named(name="think", thinking_tokens=7))(PROMPT, generate)
    await load_method(Named(name="direct", thinking=False))(PROMPT, generate)
    assert [(one.get("thinking"), one.get("thinking_tokens")) for one in seen] == [(True, 7), (False, None)]


@pytest.mark.parametrize("section", ["generate", "evaluate", "evaluate.judge"])
@pytest.mark.parametrize(
    ("override", "key"),
    [("thinking=true", "thinking"), ("thinking_tokens=9", "thinking_tokens"), ("template.effort=low", "template")],
)
def test_thinking_is_said_of_a_method_and_not_of_all_that_a_stage_samples(
    section: str, override: str, key: str
) -> None:
    judge = ["evaluate.judge.method=bsm"] if section.endswith("judge") else []
    with pytest.raises(UserError, match=f"{section}.sampling.* {key} is said of a method, as method.{key}"):
        load_single_recipe("s2a-geonames", [*judge, f"{section}.sampling.{override}"])


def test_system_1_does_not_think_whatever_the_method_does() -> None:
    options = ["method.thinking=true", "method.thinking_tokens=9", "method.template.effort=high"]
    arms = base_arms(load_single_recipe("s2a-geonames", options))
    assert arms["teacher"].options["template"] == {"effort": "high"}
    assert arms["base"].options == {}
    assert arms["base_few_shot"].options == {"examples_of": "s2a", "prompts": "few_shot"}


def test_a_judge_of_one_order_thinks_as_that_of_both_does() -> None:
    options = ["evaluate.method.both_orders=true", "method.thinking=true"]
    assert base_arms(load_single_recipe("bsm-judge-small", options))["teacher_bsm"].options["thinking"] is True


@pytest.mark.parametrize("rule", [Majority(), Universal()])
async def test_a_target_and_the_votes_for_it_are_without_the_thoughts_before_them(rule: Rule) -> None:
    """Samples whose thoughts differ agree where their answers do; a rule that asks the model shows it none."""
    task, engine = PromptFile(path=Path("any.jsonl")), ScriptedEngine(Engine(script="tests.scripts:hybrid"))
    drawn = await run_method(load_method(Named(name="think")), PROMPT, engine, Sampling(), samples=6, seed=0)
    assert len({sample.steps[0].thought for sample in drawn}) == 6
    assert all(THOUGHT in sample.steps[0].thought and sample.tokens == 4 for sample in drawn)
    row = await curate_prompt(Candidates(PROMPT, drawn), [rule], task, Recorder(engine, Sampling(), ("seed",)))
    assert (row["status"], set(row["votes"])) == ("kept", {"answer True", "answer False"})
    assert row["target"] in row["votes"]
    assert THOUGHT not in str(row)
    [plain] = await run_method(direct, PROMPT, engine, Sampling(), samples=1, seed=0)
    assert (plain.text.startswith("guess"), plain.steps[0].thought) == (True, "")
