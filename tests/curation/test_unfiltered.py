"""No curation: the first sample, whatever the others say."""

import pytest

from s2d_ray.curation.rule import Kept, Rejected
from s2d_ray.curation.unfiltered import Unfiltered
from tests.curation.parsed_samples import Words, parsed


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (("it is b", "it is a", "it is a"), Kept("b")),
        ((" no answer \n", "it is a"), Rejected("the first sample gives no answer")),
        (("!", "it is a"), Rejected("the first sample gives no answer")),
        ((" \n", "it is a"), Rejected("the first sample gives no answer")),
    ],
)
async def test_the_first_sample_is_the_target(texts: tuple[str, ...], wanted: Kept | Rejected) -> None:
    assert await Unfiltered().decide(parsed(*texts), None, Words(), None) == wanted


async def test_samples_of_variants_are_not_the_first() -> None:
    given = parsed("it is a", swapped=["it is b"])
    turned = type(given)(given.prompt, given.samples[::-1], given.answers[::-1])
    assert await Unfiltered().decide(turned, None, Words(), None) == Kept("a")
