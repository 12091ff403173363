"""System 1 asks once, with the prompt as it is; and what every method gets from the runner around it."""

import json
from collections.abc import Sequence
from functools import partial
from random import Random

import pytest

from s2d_ray.data.records import Message, Prompt, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.inference.engine import EngineDied, EngineError
from s2d_ray.inference.method_runs import run_method, run_on_all_forms
from s2d_ray.methods.direct import direct
from s2d_ray.methods.method import GenerateFunction, MalformedOutput
from s2d_ray.methods.registry import load_method, plain_examples
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.biased_trivia import BiasedTrivia
from s2d_ray.tasks.coin_flip import CoinFlip
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.judge import Judge
from s2d_ray.tasks.last_letter import LastLetter
from s2d_ray.tasks.task import Task
from tests.curation.parsed_samples import PROMPT as WHICH
from tests.curation.parsed_samples import Words
from tests.watched_engine import WatchedEngine

PROMPT = Prompt("p1", [user("Hi"), assistant("Hello"), user("Where is Lyon?")])
SAMPLING = Sampling(temperature=0.3, max_tokens=20, stop=("END",))


def say(messages: Sequence[Message], random: Random) -> str:
    return f"in France {random.random()}"


def refuse(messages: Sequence[Message], random: Random) -> str:
    raise EngineError("the prompt is too long")


def die(messages: Sequence[Message], random: Random) -> str:
    raise EngineDied("gone")


def engine(script: str = "say", order: int | None = None) -> WatchedEngine:
    return WatchedEngine(f"{__name__}:{script}", order)


async def test_the_prompt_is_asked_as_it_is_and_the_answer_is_the_text() -> None:
    watched = engine()
    samples = await run_method(direct, PROMPT, watched, SAMPLING, samples=3, seed=0)
    assert [call.messages for call in watched.calls] == [list(PROMPT.messages)] * 3
    assert all((call.sampling, call.n) == (SAMPLING, 1) for call in watched.calls)
    for sample in samples:
        [step] = sample.steps
        assert (step.name, step.text, sample.error, sample.variant) == ("answer", sample.text, "", "")
        assert (step.prompt_tokens, step.completion_tokens, sample.tokens) == (5, 3, 3)
        assert step.seconds >= 0


def test_a_recipe_names_it() -> None:
    assert load_method(Named(name="direct")) is direct


async def test_examples_are_turns_between_what_the_system_says_and_the_prompt() -> None:
    system: Message = {"role": "system", "content": "Be short."}
    watched = engine()
    examples = [("Where is Oslo?", "Norway"), ("Where is Porto?", "Portugal")]
    method = partial(direct, examples=examples)
    await run_method(method, Prompt("p", [system, *PROMPT.messages]), watched, SAMPLING, samples=1, seed=0)
    [call] = watched.calls
    shown = [turn for asked, answer in examples for turn in (user(asked), assistant(answer))]
    assert call.messages == [system, *shown, *PROMPT.messages]


async def test_examples_are_asked_as_the_task_asks_its_questions() -> None:
    """What it adds to a question, such as to answer with a number only, is added to theirs."""
    watched = engine()
    method = load_method(Named(name="direct", examples_of="cot", prompts="few_shot"))
    await run_method(method, Gsm8k().ask("How many?"), watched, SAMPLING, samples=1, seed=0)
    first, *_, last = asked = [m["content"] for m in watched.calls[0].messages if m["role"] == "user"]
    assert last == f"How many?\n\n{Gsm8k().instruction}"
    assert first.startswith("A shelf holds") and first.endswith(f"How many pens are left?\n\n{Gsm8k().instruction}")
    assert len(asked) == 5


def test_examples_are_those_of_a_method_that_has_some() -> None:
    with pytest.raises(UserError, match="method s2a has no worked examples in its first prompt set"):
        load_method(Named(name="direct", examples_of="s2a"))


PLACE = Prompt("p", [user("?")], {"kind": "country", "words": "Green Lamp"})


@pytest.mark.parametrize(
    ("method", "tasks", "answers"),
    [
        ("s2a", [BiasedTrivia()], ["France", "Valletta", "Colorado", "Italy", "eight", "Japan"]),
        ("rar1", [LastLetter(), CoinFlip()], ["np", "no", "ka", "yes"]),
        ("rar2", [LastLetter(), CoinFlip()], ["np", "no", "ka", "yes"]),
        ("cot", [Gsm8k()], ["19", "108", "40", "12"]),
        ("bsm", [Judge()], ["A", "B"]),
    ],
)
def test_plain_examples_end_with_the_answer_alone_as_a_target_is_written(
    method: str, tasks: Sequence[Task], answers: Sequence[str]
) -> None:
    prompts = "few_shot_cot" if method.startswith("rar") else "few_shot"
    examples = plain_examples(Named(name=method, prompts=prompts))
    assert [answer for _, answer in examples] == answers
    for answer in answers:
        assert answer in {task.parse(answer, PLACE) for task in tasks}
    assert not plain_examples(Named(name=method))


def test_a_judges_examples_are_asked_as_the_task_asks() -> None:
    asked, _ = plain_examples(Named(name="bsm", prompts="few_shot"))[1]
    pair = {"question": "What is 17 + 5?", "response_a": "17 + 5 = 21.", "response_b": "17 + 5 = 22."}
    assert asked == Judge().ask(json.dumps(pair)).text


async def test_every_sample_has_a_seed_of_its_own_and_the_same_ones_again() -> None:
    runs = []
    for order in (None, 1, 2):
        watched = engine(order=order)
        samples = await run_method(direct, PROMPT, watched, SAMPLING, samples=8, seed=0)
        assert len({call.seed for call in watched.calls}) == 8
        runs.append([sample.text for sample in samples])
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs[0])) == 8


async def test_another_prompt_recipe_seed_or_variant_has_other_seeds_and_more_samples_keep_the_first() -> None:
    async def seeds(prompt: Prompt = PROMPT, samples: int = 4, seed: int = 0, variant: str = "") -> list[int]:
        watched = engine()
        await run_method(direct, prompt, watched, SAMPLING, samples, seed, variant)
        return [call.seed for call in watched.calls]

    base = await seeds()
    others = [
        *await seeds(prompt=Prompt("p2", PROMPT.messages)),
        *await seeds(seed=1),
        *await seeds(variant="swapped"),
    ]
    assert len({*base, *others}) == 16
    assert (await seeds(samples=9))[:4] == base
    # The identity is the id, not what the prompt says.
    assert await seeds(prompt=Prompt("p1", [user("?")])) == base


async def test_a_variant_is_written_on_its_samples() -> None:
    samples = await run_method(direct, PROMPT, engine(), SAMPLING, samples=2, seed=0, variant="swapped")
    assert [sample.variant for sample in samples] == ["swapped", "swapped"]


async def test_every_form_that_the_task_has_of_a_prompt_is_asked() -> None:
    watched = engine()
    samples = await run_on_all_forms(direct, Words(), WHICH, watched, SAMPLING, samples=2, seed=0)
    assert [sample.variant for sample in samples] == ["", "", "swapped", "swapped"]
    asked = [call.messages[-1]["content"] for call in watched.calls]
    assert asked == ["Which?", "Which?", "Which, swapped?", "Which, swapped?"]
    assert len({call.seed for call in watched.calls}) == 4


@pytest.mark.parametrize(("script", "error"), [("refuse", EngineError), ("die", EngineDied)])
async def test_a_failure_of_the_engine_is_the_callers(script: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await run_method(direct, PROMPT, engine(script), SAMPLING, samples=2, seed=0)


async def branching(prompt: Prompt, generate: GenerateFunction) -> str:
    """Twice the same step, then one with a limit, a stop and several completions of its own."""
    await generate([user("first")], step="think")
    await generate([user("second")], step="think")
    drawn = await generate([user("third")], step="vote", n=3, stop=["\n"], max_tokens=5)
    await generate([user("fourth")], step="long", max_tokens=5000)
    return drawn[-1].text


async def test_a_step_may_ask_for_less_and_is_traced_with_all_it_cost() -> None:
    watched = engine()
    [sample] = await run_method(branching, PROMPT, watched, SAMPLING, samples=1, seed=0)
    think, again, vote, long = watched.calls
    assert think.seed != again.seed
    assert (think.sampling, again.sampling) == (SAMPLING, SAMPLING)
    assert (vote.n, vote.sampling.stop, vote.sampling.most_tokens(False)) == (3, ("END", "\n"), 5)
    assert (vote.sampling.temperature, vote.sampling.top_p) == (SAMPLING.temperature, SAMPLING.top_p)
    assert long.sampling.most_tokens(False) == 20, "a step lowers the recipe's limit, never raises it"
    assert [step.name for step in sample.steps] == ["think", "think", "vote", "vote", "vote", "long"]
    # One prompt is read for all of the completions drawn from it.
    assert [step.prompt_tokens for step in sample.steps] == [1, 1, 1, 0, 0, 1]
    assert len({step.text for step in sample.steps}) == 6
    assert (sample.tokens, sample.text) == (18, sample.steps[4].text)


async def giving_up_sometimes(prompt: Prompt, generate: GenerateFunction) -> str:
    [answer] = await generate(prompt.messages, step="answer")
    if float(answer.text.split()[-1]) < 0.5:
        raise MalformedOutput("below one half")
    return answer.text


async def test_output_that_cannot_be_used_ends_its_own_sample_only() -> None:
    samples = await run_method(giving_up_sometimes, PROMPT, engine(), SAMPLING, samples=20, seed=0)
    bad = [sample for sample in samples if sample.error]
    assert 0 < len(bad) < 20
    assert all((s.text, s.error, len(s.steps), s.tokens) == ("", "below one half", 1, 3) for s in bad)
    assert all(sample.text for sample in samples if sample not in bad)
