import re
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_ray.data.records import Prompt, user
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.reading import load_rows
from s2d_ray.tasks.rows import shipped_file

ANY = Prompt("id", [user("")], {})


def test_the_reference_is_behind_the_hashes_and_the_question_is_kept_apart() -> None:
    item = next(item for item in Gsm8k().items("train", 0) if "$" in item.prompt.text)
    assert item.references[0].lstrip("-").replace(",", "").isdigit()
    assert item.prompt.text == item.prompt.fields["bare"] + "\n\nAnswer with the final number only."
    assert next(Gsm8k(instruction="").items("train", 0)).prompt.text.endswith(("?", "."))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", "72"),
        ("She sold 48 + 24 = 72 clips.", "72"),
        ("It costs $1,200.50 in all.", "1200.50"),
        ("The loss is -$5", "-5"),
        ("3 / 4 of them", "3/4"),
        ("pick 1,2", None),
        (".5", ".5"),
        ("twelve", None),
        ("", None),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: str | None) -> None:
    assert Gsm8k().parse(text, ANY) == number


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1200", "1,200.00", True),
        ("1/2", "0.50", True),
        (".5", "0.5", True),
        ("-4", "4", False),
        ("72", "72.1", False),
        ("12", "$12", True),
        ("7/0", "7", False),
        ("100000000000000000001", "100000000000000000002", False),
    ],
)
def test_numbers_are_compared_by_value(one: str, other: str, same: bool) -> None:
    assert Gsm8k().correct(one, [other]) == same
    assert (Gsm8k().key(one) == Gsm8k().key(other)) == same


def test_numbers_are_compared_outside_the_main_thread_too() -> None:
    keys: list[str] = []
    thread = Thread(target=lambda: keys.append(Gsm8k().key("123456.250")))
    thread.start()
    thread.join()
    assert keys == [Gsm8k().key("123,456.25")]


@settings(deadline=None)  # The first number that is compared loads sympy.
@given(st.text(), st.integers(-(10**9), 10**9))
def test_the_number_that_comes_last_is_read(text: str, number: int) -> None:
    answer = Gsm8k().parse(f"{text} so it is {number}.", ANY)
    assert answer is not None
    assert Gsm8k().correct(answer, [str(number)])


def test_worked_answers_are_read_without_their_mark() -> None:
    """Of two of them the mark says another number than the text."""
    task, read = Gsm8k(), []
    for row in (*load_rows(shipped_file("gsm8k-train.jsonl")), *load_rows(shipped_file("gsm8k-test.jsonl"))):
        worked, _, number = row["answer"].rpartition("####")
        assert task.correct(task.parse(row["answer"], ANY), [number])
        read.append(task.correct(task.parse(re.sub(r"<<.*?>>", "", worked), ANY), [number]))
    assert len(read) == 400
    assert sum(read) >= 396


@given(st.text())
def test_a_parsed_answer_reads_as_itself(text: str) -> None:
    answer = Gsm8k().parse(text, ANY)
    assert answer is None or Gsm8k().parse(answer, ANY) == answer
