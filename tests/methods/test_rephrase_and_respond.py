import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.methods.rephrase_and_respond import unquoted
from tests.method_runs import ask

QUESTION = 'Take the last letters of the words in "Edgar Bob" and concatenate them.'


async def test_one_step_asks_as_published_and_returns_the_reply() -> None:
    sample = await ask("rar1", QUESTION, lambda chat: chat[-1])
    assert sample.text == f'"{QUESTION}"\nRephrase and expand the question, and respond.'
    assert len(sample.steps) == 1


async def test_two_step_asks_as_published() -> None:
    chats: list[str] = []

    def reply(chat: list[str]) -> str:
        chats.extend(chat)
        return "What are the last letters?"

    await ask("rar2", QUESTION, reply)
    assert chats == [
        f'"{QUESTION}"\nGiven the above question, rephrase and expand it to help you do better answering. '
        "Maintain all information in the original question.",
        f"(original) {QUESTION}\n(rephrased) What are the last letters?\n"
        "Use your answer for the rephrased question to answer the original question.",
    ]


def two_steps(chat: list[str]) -> str:
    return "rb" if "(rephrased)" in chat[-1] else '"Which letters end "Edgar" and "Bob"?"'


async def test_two_step_shows_both_wordings_to_the_second_call() -> None:
    def reply(chat: list[str]) -> str:
        return chat[-1] if "(rephrased)" in chat[-1] else two_steps(chat)

    sample = await ask("rar2", QUESTION, reply)
    assert f"(original) {QUESTION}\n" in sample.text
    assert '(rephrased) Which letters end "Edgar" and "Bob"?\n' in sample.text
    assert [step.name for step in sample.steps] == ["rephrase", "respond"]


async def test_two_step_answers_with_the_second_call() -> None:
    assert (await ask("rar2", QUESTION, two_steps)).text == "rb"


@pytest.mark.parametrize(("rewording", "reason"), [("", "empty"), (" \n", "empty"), ("on and on " * 99, "token limit")])
async def test_a_useless_rephrasing_is_malformed(rewording: str, reason: str) -> None:
    sample = await ask("rar2", QUESTION, lambda chat: rewording, max_tokens=40)
    assert reason in sample.error
    assert [step.name for step in sample.steps] == ["rephrase"]


async def test_few_shot_one_step_returns_the_final_answer() -> None:
    reply = 'What ends each word?\nThe answer is "rb".'
    assert (await ask("rar1", QUESTION, lambda chat: reply, prompts="few_shot_cot")).text == '"rb".'
    assert "no answer" in (await ask("rar1", QUESTION, lambda chat: "rb", prompts="few_shot_cot")).error


async def test_few_shot_examples_come_before_each_call() -> None:
    lengths: list[int] = []

    def reply(chat: list[str]) -> str:
        lengths.append(len(chat))
        return two_steps(chat) + "\nnever read"

    await ask("rar2", QUESTION, reply, prompts="few_shot_cot")
    assert lengths == [9, 9]


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('"What is it?"', "What is it?"),
        ("“What is it?”", "What is it?"),
        ('"Which letters end "Edgar" and "Bob"?"', 'Which letters end "Edgar" and "Bob"?'),
        ('"A" and "B"', '"A" and "B"'),
        ('"Really?" and "B"', '"Really?" and "B"'),
        ('""twice""', '"twice"'),
        ('"open', '"open'),
        ('"', '"'),
        ("plain", "plain"),
    ],
)
def test_one_outer_pair_of_quotes_is_stripped(text: str, bare: str) -> None:
    assert unquoted(text) == bare


@given(st.text(alphabet=st.characters(exclude_characters='"“”'), min_size=1))
def test_quoting_is_undone(text: str) -> None:
    assert unquoted(f'"{text}"') == text.strip()
    assert unquoted(text) == text.strip()
