"""Whose turn it is: parts in the order of their models, and no model changed under a part that is worked on."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from s2d_ray.stages.turns import Place, Turns

PLACES = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef")), unique=True, min_size=1, max_size=12)


class Worked:
    """Parts as they begin and end, each a few turns of the event loop long."""

    def __init__(self) -> None:
        self.turns, self.begun = Turns(), list[Place]()
        self.at_work = set[Place]()
        self.together: list[set[Place]] = []

    async def part(self, place: Place, reading: int, answering: int) -> None:
        async with self.turns.turn(place) as begun:
            self.begun.append(place)
            self.at_work.add(place)
            self.together.append(set(self.at_work))
            await pause(reading)
            assert self.begun[-1] == place, "another part began while this one was being read"
            begun()
            await pause(answering)
            self.at_work.remove(place)


async def pause(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def work(places: Sequence[Place], lengths: Sequence[int]) -> Worked:
    worked = Worked()
    lasting = [lengths[number % len(lengths)] for number in range(len(places))]
    await asyncio.gather(
        *(worked.part(place, 1 + length % 3, length) for place, length in zip(places, lasting, strict=True))
    )
    return worked


@given(PLACES, st.lists(st.integers(0, 20), min_size=1, max_size=5))
@settings(deadline=None)
def test_parts_begin_in_order_and_only_beside_parts_of_their_model(
    places: Sequence[Place], lengths: Sequence[int]
) -> None:
    worked = asyncio.run(work(places, lengths))
    # The one that came first began at once; the others were there when it had begun.
    assert worked.begun == [places[0], *sorted(places[1:])]
    assert all(len({model for model, _ in parts}) == 1 for parts in worked.together)


def test_parts_of_one_model_are_worked_on_side_by_side() -> None:
    worked = asyncio.run(work([(0, "a"), (0, "b"), (0, "c"), (1, "a")], [50]))
    assert max(worked.together, key=len) == {(0, "a"), (0, "b"), (0, "c")}
    assert worked.together[-1] == {(1, "a")}


def test_once_closed_no_part_begins_and_those_that_have_begun_come_to_their_end() -> None:
    async def close() -> Worked:
        worked = Worked()
        parts = [asyncio.create_task(worked.part((0, name), 1, 30)) for name in "ab"]
        await pause(4)
        late = asyncio.create_task(worked.part((0, "c"), 1, 1))
        await worked.turns.close()
        assert not worked.at_work
        await asyncio.gather(*parts)
        await pause(50)
        late.cancel()
        with suppress(asyncio.CancelledError):
            await late
        return worked

    assert asyncio.run(close()).begun == [(0, "a"), (0, "b")]


def test_a_part_that_fails_leaves_its_turn_to_the_next() -> None:
    async def fail() -> Worked:
        worked = Worked()
        with suppress(ValueError):
            async with worked.turns.turn((0, "a")):
                raise ValueError
        await worked.part((1, "a"), 1, 1)
        return worked

    assert asyncio.run(fail()).begun == [(1, "a")]
