"""The call that is the answer has the form that is asked for, and no other call has."""

import pytest

from s2d_ray.data.records import Prompt, user
from s2d_ray.inference.engine import EngineError
from s2d_ray.inference.method_runs import run_method
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.methods.method import Method
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named
from tests.method_runs import engine_that_says
from tests.scripts import ask_twice

YES = Sampling(answer_format=AnswerFormat(choice=("yes", "no")))
PROMPT = Prompt("id", [user("Is it?")])


@pytest.mark.parametrize(("name", "prompts"), [("direct", "few_shot"), ("s2a", "few_shot"), ("rar2", "few_shot_cot")])
async def test_only_the_last_call_is_held(name: str, prompts: str) -> None:
    method = load_method(Named(name=name, prompts=prompts))
    said = iter(["Is it so?", "yes"][name == "direct" :])
    [sample] = await run_method(method, PROMPT, engine_that_says(lambda _: next(said)), YES, 1, seed=0)
    assert (sample.text, sample.error) == ("yes", "")
    said = iter(["yes", "Certainly."][name == "direct" :])
    with pytest.raises(EngineError, match="does not have the form"):
        await run_method(method, PROMPT, engine_that_says(lambda _: next(said)), YES, 1, seed=0)


async def test_a_method_without_a_call_that_is_the_answer_gives_none() -> None:
    own: Method = ask_twice
    [sample] = await run_method(own, PROMPT, engine_that_says(lambda _: "yes"), YES, 1, seed=0)
    assert (sample.text, "has no form" in sample.error) == ("", True)
    [sample] = await run_method(own, PROMPT, engine_that_says(lambda _: "yes"), Sampling(), 1, seed=0)
    assert (sample.text, sample.error) == ("yes", "")


async def test_a_judge_of_the_answers_says_its_verdict_all_the_same() -> None:
    judge = PairwiseJudge(load_method(Named(name="direct")), engine_that_says(lambda _: "A"), YES)
    assert await judge.both_orders(PROMPT, "yes", "no", seed=0) == ("A", "B")
