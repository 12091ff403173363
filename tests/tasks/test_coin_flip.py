import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import Prompt, user
from s2d_ray.tasks.coin_flip import CoinFlip

ANY = Prompt("id", [user("")], {"acts": ""})
SMALL = {"train_items": 300, "valid_items": 30, "test_items": 30}


def test_the_reference_is_the_parity_of_the_flips() -> None:
    for item in CoinFlip(people=(1, 2, 5), **SMALL).items("train", 0):
        flips = item.prompt.text.count(" flips the coin.")
        assert item.references == ["no" if flips % 2 else "yes"]
        assert flips + item.prompt.text.count(" does not flip the coin.") == int(item.group.split()[0])


def test_both_answers_are_about_as_frequent() -> None:
    yes = sum(item.references == ["yes"] for item in CoinFlip(**SMALL).items("train", 0))
    assert 120 < yes < 180


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.", "yes"),
        ("**No**, since it was flipped once.", "no"),
        ("It is flipped twice, so no change. The answer is yes.", "yes"),
        ("The answer is no. Wait: the answer is: Yes", "yes"),
        ("It was flipped, so no longer heads.", "no"),
        ("The coin is still heads up.", "yes"),
        ("The coin is not still heads up.", "no"),
        ("A coin is heads up. After one flip it is tails up.", "no"),
        ("Either yes or no.", None),
        ("Nobody knows.", None),
        ("", None),
    ],
)
def test_answers_are_read_however_they_are_put(text: str, answer: str | None) -> None:
    assert CoinFlip().parse(text, ANY) == answer


@given(st.text())
def test_any_text_is_read_or_not(text: str) -> None:
    assert CoinFlip().parse(text, ANY) in (None, "yes", "no")


def test_the_order_of_the_people_does_not_matter() -> None:
    task = CoinFlip(perturbations=("reverse",), people=(3,), **SMALL)
    item = next(task.items("train", 0))
    [variant] = task.variants(item.prompt)
    assert variant.prompt.fields["acts"].splitlines() == item.prompt.fields["acts"].splitlines()[::-1]
    assert [variant.map_back(answer) for answer in ("yes", "no")] == ["yes", "no"]
    assert not CoinFlip().variants(item.prompt)
