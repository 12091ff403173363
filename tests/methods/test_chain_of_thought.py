import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import Completion, Prompt, user
from s2d_ray.methods.chain_of_thought import PROMPT_SETS
from s2d_ray.methods.method import MalformedOutput
from s2d_ray.methods.parsing import parse_final_answer
from tests.method_runs import ask


def said(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 1, 0, 1)


async def test_only_the_final_answer_is_returned() -> None:
    sample = await ask("cot", "How many legs has a spider?", lambda chat: "Spiders are arachnids.\n\nFinal answer: 8")
    assert sample.text == "8"
    assert [step.name for step in sample.steps] == ["think"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 7\n**Final answer:** 7", "7"),
        ("Final answer: **7**\n\nI hope this helps!", "7"),
        ("Final answer: 6, no wait.\nFINAL ANSWER: 7", "7"),
        ("The final answer is 7.", "7."),
        ("The final answer is: Paris", "Paris"),
        ("The **final answer** is: **Paris**", "Paris"),
        ("Final answer: Paris. The final answer is not Lyon.", "Paris. The final answer is not Lyon."),
        ("Final answer:\n\n7 apples", "7 apples"),
    ],
)
def test_the_last_prefix_counts_however_it_is_set(text: str, answer: str) -> None:
    assert parse_final_answer(said(text), "final answer") == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It is 7.", "no answer marked"),
        ("", "no answer marked"),
        ("A final answer needs care, 7", "no answer marked"),
        ("Final answer:", "nothing after"),
        ("**Final answer:**  ", "nothing after"),
    ],
)
async def test_a_missing_answer_is_malformed_and_kept(text: str, reason: str) -> None:
    sample = await ask("cot", "What?", lambda chat: text)
    assert sample.text == ""
    assert reason in sample.error
    assert len(sample.steps) == 1


async def test_endless_thinking_is_malformed() -> None:
    sample = await ask("cot", "What?", lambda chat: "and so on " * 100, max_tokens=50)
    assert "token limit" in sample.error


def test_an_answer_that_the_token_limit_cut_is_not_an_answer() -> None:
    with pytest.raises(MalformedOutput, match="cut"):
        parse_final_answer(said("Final answer: 12", "length"), "final answer")
    assert parse_final_answer(said("Final answer: 120\nThis is beca", "length"), "final answer") == "120"


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"), exclude_characters="*`"), min_size=1))
def test_any_one_line_answer_comes_back(answer: str) -> None:
    if "answer" not in answer.casefold():
        assert parse_final_answer(said("thinking\nFinal answer: " + answer), "final answer") == answer


async def test_few_shot_shows_worked_examples_that_carry_the_prefix() -> None:
    chats: list[list[str]] = []

    def reply(chat: list[str]) -> str:
        chats.append(chat)
        return "2 + 2 = 4. The answer is 4"

    sample = await ask("cot", "What is 2 + 2?", reply, prompts="few_shot")
    assert sample.text == "4"
    assert chats[0][-1] == "What is 2 + 2?"
    assert len(chats[0]) == 1 + 2 * len(PROMPT_SETS["few_shot"].examples)
    for shown, (*_, answer) in zip(chats[0][1::2], PROMPT_SETS["few_shot"].examples, strict=True):
        assert parse_final_answer(said(shown), PROMPT_SETS["few_shot"].answer_prefix) == answer


async def test_the_instruction_to_answer_bare_is_not_shown() -> None:
    prompt = Prompt("id", [user("How many? Answer with the number only.")], {"bare": "How many?"})
    sample = await ask("cot", prompt, lambda chat: "Final answer: " + str("number only" in chat[-1]))
    assert sample.text == "False"
