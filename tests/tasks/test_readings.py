"""What texts mean, by hand, against what the tasks read off them. The tables are in `readings/`."""

from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml

from s2d_ray.data.records import Prompt, user
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Task

TABLES = Path(__file__).parent / "readings"
TASKS = ("geonames", "biased_trivia", "judge", "coin_flip", "last_letter", "gsm8k", "prompts")


def lines(table: str) -> list[Any]:
    """Of each line: its part of the table, the text, and what it means."""
    parts = yaml.safe_load((TABLES / f"{table}.yaml").read_text())
    return [
        pytest.param(part, text, meaning, id=text[:60] or "nothing")
        for part in parts
        for text, meaning in part["readings"]
    ]


def task_of(name: str, part: dict[str, Any]) -> Task:
    options = {"path": "p.csv"} if name == "prompts" else {}
    return load_task(Named.model_validate({"name": name} | options | part.get("options", {})))


def prompt_of(part: dict[str, Any]) -> Prompt:
    return Prompt("id", [user(part.get("asked", ""))], part.get("fields", {}))


@pytest.mark.parametrize("table", TASKS)
def test_a_table_has_enough_lines_with_and_without_an_answer(table: str) -> None:
    found = [line.values for line in lines(table)]
    assert len(found) >= 40
    assert sum(meaning is None for _, _, meaning in found) >= 10
    assert len({(str(part), text) for part, text, _ in found}) == len(found)


@pytest.mark.parametrize(("part", "text", "meaning"), lines("biased_trivia"))
def test_a_text_gives_a_right_answer_or_a_wrong_one_or_none(part: dict[str, Any], text: str, meaning: bool) -> None:
    task = task_of("biased_trivia", part)
    answer = task.parse(text, prompt_of(part))
    assert (None if answer is None else task.correct(answer, part["references"])) == meaning, answer


@pytest.mark.parametrize(("part", "text", "meaning"), lines("gsm8k"))
def test_a_text_gives_a_number(part: dict[str, Any], text: str, meaning: str | None) -> None:
    task = task_of("gsm8k", part)
    answer = task.parse(text, prompt_of(part))
    assert (answer and Fraction(answer)) == (meaning and Fraction(meaning)), answer
    assert answer is None or (task.key(answer), task.parse(answer, prompt_of(part))) == (meaning, answer)


@pytest.mark.parametrize(("part", "text", "meaning"), lines("prompts"))
def test_a_text_is_compared_by_what_it_means(part: dict[str, Any], text: str, meaning: str | None) -> None:
    task = task_of("prompts", part)
    answer = task.parse(text, prompt_of(part))
    assert (None if answer is None else task.key(answer)) == meaning


@pytest.mark.parametrize("name", ["geonames", "judge", "coin_flip", "last_letter"])
def test_a_text_gives_the_answer_that_it_means(name: str) -> None:
    wrong = []
    for part, text, meaning in (line.values for line in lines(name)):
        task, prompt = task_of(name, part), prompt_of(part)
        answer = task.parse(text, prompt)
        if answer != meaning:
            wrong.append((text, meaning, answer))
        assert answer is None or task.parse(answer, prompt) == answer, "a target is read as itself"
    assert wrong == []


@pytest.mark.parametrize(("part", "text", "meaning"), lines("cut"))
def test_a_text_that_was_cut_gives_only_what_was_over(part: dict[str, Any], text: str, meaning: str | None) -> None:
    assert task_of(part["task"], part).parse_cut(text, prompt_of(part)) == meaning


REPEATED = ("you ", "\n", "(", "`", "heads ", "the answer is ", "! ", "7 ")
SECONDS = 1.5
"""Of processor time, and generous: texts of 8,000 characters took up to ten times as long, those of 100,000 minutes."""


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("unit", REPEATED, ids=repr)
def test_a_text_of_repetitions_takes_no_reader_long(name: str, unit: str) -> None:
    part = lines(name)[0].values[0]
    task, prompt = task_of(name, part), prompt_of(part)
    task.parse("The answer is 1.", prompt)
    text, started = (unit * 100_000)[:100_000], process_time()
    task.parse(text, prompt)
    task.parse_cut(text, prompt)
    assert process_time() - started < SECONDS
