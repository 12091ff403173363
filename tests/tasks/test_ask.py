"""What a person types becomes the prompt that the task's own items are."""

import json

import pytest

from s2d_ray.data.records import LabelledPrompt
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.geonames import Geonames
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.judge import Judge
from s2d_ray.tasks.last_letter import LastLetter
from s2d_ray.tasks.registry import load_task


def first(name: str) -> LabelledPrompt:
    return next(load_task(Named(name=name)).items("test", 0))


@pytest.mark.parametrize("name", ["geonames", "last_letter", "coin_flip", "biased_trivia"])
def test_the_text_of_an_item_is_asked_as_the_item(name: str) -> None:
    item, task = first(name), load_task(Named(name=name))
    asked = task.ask(item.prompt.text)
    assert (asked.prompt_id, asked.messages) == (item.prompt.prompt_id, item.prompt.messages)
    assert task.parse(item.references[0], asked) == task.parse(item.references[0], item.prompt) is not None


def test_a_word_problem_gets_the_instruction_and_stays_bare_for_methods() -> None:
    item = first("gsm8k")
    assert Gsm8k().ask(item.prompt.fields["bare"]) == item.prompt
    assert Gsm8k(instruction="").ask("1 + 1?").text == "1 + 1?"


def test_a_pair_is_asked_as_json() -> None:
    item = first("judge")
    assert Judge().ask(json.dumps(item.prompt.fields)) == item.prompt


@pytest.mark.parametrize(
    "text",
    [
        "Which is better?",
        "{",
        "[]",
        '"Q"',
        '{"question": "Q"}',
        '{"question": "Q", "response_a": 1, "response_b": "2"}',
    ],
)
def test_what_is_no_pair_is_refused_with_the_form_of_one(text: str) -> None:
    with pytest.raises(UserError, match=r'type \{"question": "…", "response_a": '):
        Judge().ask(text)


@pytest.mark.parametrize(
    ("text", "words", "asked"),
    [
        ("Edgar Bob", "Edgar Bob", 'Take the last letters of the words in "Edgar Bob" and concatenate them.'),
        ('Join the last letters of "Edgar Bob".', "Edgar Bob", 'Join the last letters of "Edgar Bob".'),
        ("Join the last letters of “Edgar  Bob”.", "Edgar Bob", "Join the last letters of “Edgar  Bob”."),
    ],
)
def test_words_are_typed_alone_or_in_quotes(text: str, words: str, asked: str) -> None:
    prompt = LastLetter().ask(text)
    assert (prompt.fields, prompt.text) == ({"words": words}, asked)


@pytest.mark.parametrize("text", ["What is 2 + 2?", 'Join the last letters of "4 2".', '" "'])
def test_a_question_without_words_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="task last_letter asks about words: type them alone, or in"):
        LastLetter().ask(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("In which country is Lyon?", "country"),
        ("I think the answer is Peru. What country is the city of Lyon in?", "country"),
        ("Which US state is Austin the capital of?", "state"),
        ("What's the capital of Norway, a country in Europe?", "capital"),
        ("Oslo is the capital of\nWHICH country?", "country"),
    ],
)
def test_the_kind_of_place_is_read_off_the_question(text: str, kind: str) -> None:
    prompt = Geonames().ask(text)
    assert (prompt.fields, prompt.text) == ({"kind": kind}, text)


@pytest.mark.parametrize("text", ["Where is Lyon?", "Which countryside?", "Name a country."])
def test_a_question_for_no_kind_of_place_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="task geonames asks for a country, a US state or a capital"):
        Geonames().ask(text)
