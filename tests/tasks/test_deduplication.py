"""The set of ids is a set."""

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.tasks.deduplication import SeenIds


@given(st.lists(st.text(max_size=3), max_size=30))
def test_an_id_is_new_once(names: list[str]) -> None:
    known = set[str]()
    with closing(SeenIds()) as seen:
        for name in names:
            assert seen.add(name) == (name not in known)
            known.add(name)
