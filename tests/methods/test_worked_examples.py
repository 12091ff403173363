"""What System 2 is shown with its answer must not be asked: a worked example is about nothing that a task has."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest

from s2d_ray.answers.names import folded
from s2d_ray.answers.normalisation import caseless
from s2d_ray.methods.registry import METHODS
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.geonames import Geonames, _facts
from s2d_ray.tasks.registry import TASKS, load_task
from s2d_ray.tasks.task import Split
from s2d_ray.tasks.vocabulary import load_words

SMALL: dict[str, dict[str, Any]] = {
    "last_letter": {"train_items": 2000, "valid_items": 300, "test_items": 300},
    "coin_flip": {"train_items": 2000, "valid_items": 300, "test_items": 300},
}


def shown(value: Any) -> Iterator[str]:
    """Every text in the worked examples of a prompt set."""
    match value:
        case str():
            yield value
        case dict():
            yield from (text for part in value.values() for text in shown(part))
        case tuple() | list():
            yield from (text for part in value for text in shown(part))
        case _ if is_dataclass(value):
            yield from (text for field in fields(value) for text in shown(getattr(value, field.name)))


def worked(prompts: Any) -> Iterator[Any]:
    """The worked examples of a prompt set, whichever call shows them."""
    for field in fields(prompts):
        value = getattr(prompts, field.name)
        if field.name in ("examples", "verdicts"):
            yield value
        elif is_dataclass(value):
            yield from worked(value)


def texts_of_examples() -> list[str]:
    sets = [prompts for method in METHODS.values() for prompts in method.prompt_sets.values()]
    return [text for prompts in sets for text in shown(tuple(worked(prompts)))]


def questions() -> set[str]:
    """What the worked examples ask, caseless."""
    return {caseless(text) for text in texts_of_examples() if "?" in text or text.startswith("Take the")}


def asked_by(name: str, seed: int, options: dict[str, Any]) -> Iterator[str]:
    task = load_task(Named(name=name, **options))
    for split in get_args(Split):
        for item in task.items(split, seed):
            yield item.prompt.text
            yield from item.prompt.fields.values()


def test_the_examples_of_every_prompt_set_are_looked_at() -> None:
    found = questions()
    assert {"what is 17 + 5?", "how many legs does a spider have?", "what is the capital of malta?"} <= found
    assert all(any(one.startswith(start) for one in found) for start in ("take the last", "a coin is", "kofi reads"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in TASKS if name != "prompts"])
def test_no_task_asks_what_a_worked_example_answers(name: str, seed: int) -> None:
    texts = {caseless(text) for text in asked_by(name, seed, SMALL.get(name, {}))}
    everything = "\n".join(texts)
    assert not [one for one in questions() if one in everything]


HOMONYMS = {"green", "oregon"}
"""A word and a state, which small cities are called by too."""


def test_no_worked_example_names_a_city_that_can_be_asked_about() -> None:
    most = next(m.le for m in Geonames.model_fields["cities"].metadata if hasattr(m, "le"))
    facts = _facts(most)
    cities = {f.subject for f in facts if f.kind != "capital"} | {f.answer for f in facts if f.kind == "capital"}
    named = re.findall(r"[A-Z]\w+(?: [A-Z]\w+)*", "\n".join(texts_of_examples()))
    assert {folded(one) for one in named} & {folded(city) for city in cities} <= HOMONYMS


def test_no_worked_example_names_a_person_or_word_of_the_generated_tasks() -> None:
    named = {word for text in texts_of_examples() for word in re.findall(r"[A-Z]\w+", text)}
    assert named & set(load_words(None)) == set()
