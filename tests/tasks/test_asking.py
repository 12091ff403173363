"""What a client or a person says in a conversation becomes a prompt as what they ask alone does."""

import json

import pytest

from s2d_ray.data.records import Message, Prompt, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.asking import asked
from s2d_ray.tasks.geonames import Geonames
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.judge import Judge

SYSTEM: Message = {"role": "system", "content": "Be short."}
EARLIER = [SYSTEM, user("What is 1 + 1?"), assistant("2")]
PAIR = {"question": "What is tea?", "response_a": "A drink.", "response_b": "A tree."}


def test_a_single_question_is_what_the_task_makes_of_it() -> None:
    assert asked(Gsm8k(), [user("What is 2 + 2?")]) == Gsm8k().ask("What is 2 + 2?")
    assert asked(Judge(), [user(json.dumps(PAIR))]) == Judge().ask(json.dumps(PAIR))


@pytest.mark.parametrize("earlier", [EARLIER, EARLIER[:1], EARLIER[1:]])
def test_the_last_turn_is_asked_as_the_task_asks_and_what_came_before_is_kept(earlier: list[Message]) -> None:
    alone = Gsm8k().ask("And 2 + 2?")
    prompt = asked(Gsm8k(), [*earlier, user("And 2 + 2?")])
    assert prompt.messages == [*earlier, *alone.messages]
    assert prompt.text == f"And 2 + 2?\n\n{Gsm8k().instruction}"
    assert prompt.fields == {"bare": "And 2 + 2?"}


def test_a_judge_gets_its_fields_after_a_system_prompt_and_its_forms_keep_the_verdict() -> None:
    prompt = asked(Judge(), [SYSTEM, user(json.dumps(PAIR))])
    assert prompt.fields == PAIR
    assert prompt.messages[0] == SYSTEM
    assert Judge().parse("[[A]]", prompt) == "A"
    with pytest.raises(UserError, match="task judge compares two responses"):
        asked(Judge(), [SYSTEM, user("Which is better?")])


def test_parts_that_reading_an_answer_needs_are_those_of_the_last_question() -> None:
    prompt = asked(Geonames(), [user("Hello"), assistant("Hi"), user("Which country is the city of Lyon in?")])
    assert Geonames().parse("It is in France.", prompt) == "France"


def test_the_identity_is_that_of_the_whole_conversation() -> None:
    last = user("And 2 + 2?")
    chats = [[last], [SYSTEM, last], [*EARLIER, last], [*EARLIER[:-1], assistant("3"), last], [*EARLIER[1:], last]]
    assert len({asked(Gsm8k(), chat).prompt_id for chat in chats}) == len(chats)
    assert asked(Gsm8k(), chats[2]).prompt_id == asked(Gsm8k(), chats[2]).prompt_id


class Instructed(Gsm8k):
    """A task of one's own that asks with a system prompt."""

    def ask(self, text: str) -> Prompt:
        return Prompt("id", [{"role": "system", "content": "Add."}, user(text)])


def test_what_the_system_says_stays_before_all_turns() -> None:
    chat = asked(Instructed(), [*EARLIER, user("And 2 + 2?")]).messages
    assert [(one["role"], one["content"]) for one in chat[:3]] == [
        ("system", "Be short."),
        ("system", "Add."),
        ("user", "What is 1 + 1?"),
    ]


@pytest.mark.parametrize("chat", [[], [SYSTEM], [user("Hi"), assistant("Hello")]])
def test_a_chat_that_does_not_end_with_a_question_is_refused(chat: list[Message]) -> None:
    with pytest.raises(UserError, match="its last message must be the user's"):
        asked(Gsm8k(), chat)
