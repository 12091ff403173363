"""What a part says of itself: a row that is lost, doubled or another is noticed, from footers alone."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.contents import Contents, check_contents, contents_of, described, write_stamped
from s2d_ray.errors import UserError


def table(*ids: str) -> pa.Table:
    return pa.table({"prompt_id": list(ids)})


@given(st.lists(st.text(max_size=5), max_size=8), st.randoms())
def test_the_same_in_any_order_and_in_any_parts(ids: list[str], random: object) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = Contents.of(ids)
    assert Contents.of(shuffled) == whole == Contents.of(ids[:3]) + Contents.of(ids[3:])
    assert Contents.of(ids * 3) == whole.times(3)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=8), st.integers(0), st.text(max_size=5))
def test_another_where_a_row_is_lost_doubled_or_new(ids: list[str], place: int, new: str) -> None:
    place %= len(ids)
    assert Contents.of(ids[:place] + ids[place + 1 :]) != Contents.of(ids)
    assert Contents.of([*ids, ids[place]]) != Contents.of(ids)
    assert (Contents.of([*ids[:place], new, *ids[place + 1 :]]) == Contents.of(ids)) is (new == ids[place])


def test_a_folder_is_known_from_footers_and_one_of_an_earlier_version_from_its_ids(tmp_path: Path) -> None:
    write_stamped(tmp_path / "part-0.parquet", table("a", "b"))
    pq.write_table(table("c"), tmp_path / "part-1.parquet")
    assert contents_of(tmp_path) == Contents.of(["a", "b", "c"])
    stamped = described(tmp_path / "part-0.parquet")
    assert stamped is not None and stamped.stamp is not None
    # A stamp changes nothing for who reads the rows.
    assert pq.read_table(tmp_path / "part-0.parquet").to_pylist() == [{"prompt_id": "a"}, {"prompt_id": "b"}]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 100])
def test_what_is_no_whole_file_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "part-0.parquet").write_bytes(content)
    assert described(tmp_path / "part-0.parquet") is None


def test_a_file_that_was_cut_anywhere_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    write_stamped(path, table("a", "b"))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert described(path) is None
    # As a file system leaves it that had the length on the disk, and not yet the content.
    path.write_bytes(bytes(len(whole)))
    assert described(path) is None


def test_what_differs_is_named(tmp_path: Path) -> None:
    for number, ids in enumerate([("a", "b"), ("c", "d"), ("e",)]):
        write_stamped(tmp_path / f"part-{number}.parquet", table(*ids))
    expected = Contents.of("abcde")
    check_contents(tmp_path, expected)
    copy = (tmp_path / "part-1.parquet").read_bytes()
    (tmp_path / "part-1.parquet").unlink()
    with pytest.raises(
        UserError, match="has 3 rows where 5 belong: run the same command again, what is missing is made anew"
    ):
        check_contents(tmp_path, expected)
    for name in ("part-1.parquet", "part-1 (copy).parquet"):
        (tmp_path / name).write_bytes(copy)
    with pytest.raises(
        UserError, match=r"has 7 rows where 5 belong \(part-1 \(copy\)\.parquet: not as its stage"
    ) as caught:
        check_contents(tmp_path, expected)
    assert str(caught.value).endswith(": remove what does not belong there, and run the same command again")
    # As many rows as there have to be, but not those.
    (tmp_path / "part-1.parquet").unlink()
    (tmp_path / "part-0.parquet").write_bytes(copy)
    (tmp_path / "part-1 (copy).parquet").unlink()
    write_stamped(tmp_path / "part-1.parquet", table("c", "d"))
    with pytest.raises(UserError, match=r"has other rows than the 5 that belong there \(part-0\.parquet: not as"):
        check_contents(tmp_path, expected)
    (tmp_path / "part-1.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"has parts that cannot be read \(part-1\.parquet\)"):
        check_contents(tmp_path, expected)
