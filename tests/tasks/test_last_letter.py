from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.last_letter import LastLetter

EDGAR = Prompt("id", [user("")], {"words": "Edgar Bob"})
LETTERS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=6)


def test_the_reference_is_the_last_letters() -> None:
    for item in LastLetter(words=(1, 2, 5)).items("train", 0):
        words = item.prompt.fields["words"].split()
        assert item.references == ["".join(word[-1] for word in words).lower()]
        assert f'"{" ".join(words)}"' in item.prompt.text
        assert item.group == f"{len(words)} words"


def test_items_have_all_the_lengths_asked_for() -> None:
    groups = {item.group for item in LastLetter(words=(2, 4)).items("test", 0)}
    assert groups == {"2 words", "4 words"}


def test_words_of_your_own(tmp_path: Path) -> None:
    words = [a + b for a in "abcdefgh" for b in "klmnopqrst"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    task = LastLetter(vocabulary=tmp_path / "words.txt", train_items=50, valid_items=5, test_items=5)
    assert {w for item in task.items("train", 0) for w in item.prompt.fields["words"].split()} <= set(words)
    assert task.source == "generated from words.txt"


@pytest.mark.parametrize(
    ("text", "message"), [("ab\ncd\nef gh\n", "'ef gh' is not one word"), ("ab\ncd\nef\ngh\n", "make .* not 200")]
)
def test_unsuitable_words_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        list(LastLetter(vocabulary=tmp_path / "words.txt").items("train", 0))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("rb", "rb"),
        ("RB.", "rb"),
        ('The last letters are "r" and "b", so the answer is "rb".', "rb"),
        ('The words in "Edgar Bob" end in r and b. The answer is: **rb**', "rb"),
        ('"Edgar" ends in "r", "Bob" in "b". Together: rb', "rb"),
        ('Is it "rd"? No, it is "rb".', "rb"),
        ('The letters are "r" and "b".', "rb"),
        ("I cannot say.", None),
        ("", None),
    ],
)
def test_answers_are_read_however_they_are_set(text: str, answer: str | None) -> None:
    assert LastLetter().parse(text, EDGAR) == answer


@given(LETTERS)
def test_a_target_reads_as_itself(answer: str) -> None:
    words = Prompt("id", [user("")], {"words": " ".join(answer)})
    task = LastLetter()
    for text in (answer, f'The answer is "{answer}".', f"so it is {answer}", f"**{answer.upper()}**"):
        assert task.parse(text, words) == answer


@given(st.text())
def test_any_text_is_read_or_not(text: str) -> None:
    answer = LastLetter().parse(text, EDGAR)
    assert answer is None or answer.isalpha()


def test_reversed_words_answer_in_reverse() -> None:
    assert not LastLetter().variants(EDGAR)
    task = LastLetter(perturbations=("reverse",), words=(3,))
    item = next(task.items("train", 0))
    [variant] = task.variants(item.prompt)
    assert variant.prompt.fields["words"].split() == item.prompt.fields["words"].split()[::-1]
    reversed_answer = "".join(w[-1] for w in variant.prompt.fields["words"].split()).lower()
    assert variant.map_back(reversed_answer) == item.references[0]
