"""Parts: they cover their source once, whatever its files, and are done when all their files are there."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2d_ray.data.contents import Contents, contents_of
from s2d_ray.data.files import part_files, read_rows, write_json
from s2d_ray.data.shards import (
    CHECKPOINT,
    Shard,
    commit_part,
    forget_checkpoint,
    is_done,
    mark_failed,
    marked_failed,
    parts_done,
    read_part,
    remaining,
    rows_of,
)
from s2d_ray.errors import UserError


def write_source(folder: Path, files: Sequence[int], group: int) -> Path:
    """Files of so many rows each, numbered through, in row groups of `group`."""
    folder.mkdir(parents=True)
    begin = 0
    for number, rows in enumerate(files):
        numbers = range(begin, begin + rows)
        table = pa.table({"n": pa.array(numbers, pa.int64()), "prompt_id": [str(n) for n in numbers]})
        pq.write_table(table, folder / f"part-{number:03}.parquet", row_group_size=group)
        begin += rows
    return folder


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(1, 7), st.integers(1, 9))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_cover_every_row_once(tmp_path_factory: pytest.TempPathFactory, files: list[int], group: int, size: int):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("any")
    left = remaining(write_source(folder / "source", files, group), folder, size)
    assert [row["n"] for part in left.parts for row in read_part(part)] == list(range(sum(files)))
    assert all(rows_of(part) == size for part in left.parts[:-1])
    assert len({part["name"] for part in left.parts}) == len(left.parts)
    assert (left.rows, left.done) == (sum(files), 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", [25], 10)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def commit(target: Path, part: Shard) -> None:
    commit_part(target, part, pa.Table.from_pylist(read_part(part)))


def test_what_is_done_is_not_left(source: Path, target: Path) -> None:
    first, _, third = remaining(source, target, 10).parts
    commit(target, third)
    commit(target, first)
    again = remaining(source, target, 10)
    assert [row["n"] for part in again.parts for row in read_part(part)] == list(range(10, 20))
    assert (again.rows, again.done, parts_done(target)) == (10, 15, 2)


def test_parts_keep_the_size_that_they_were_begun_with(source: Path, target: Path) -> None:
    commit(target, remaining(source, target, 10).parts[0])
    for part in remaining(source, target, 3).parts:
        commit(target, part)
    assert [row["n"] for row in read_rows(target)] == list(range(25))
    assert not remaining(source, target, 3).parts


def test_a_part_made_twice_is_there_once(source: Path, target: Path) -> None:
    parts = remaining(source, target, 10).parts
    for part in [*parts, *parts]:
        commit(target, part)
    assert [row["n"] for row in read_rows(target)] == list(range(25))


def test_a_part_that_is_made_again_moves_its_rows(source: Path, target: Path) -> None:
    part, *_ = remaining(source, target, 10).parts
    for odd in ("rejected", "kept"):
        decided = [row | {"status": odd if row["n"] % 2 else "failed"} for row in read_part(part)]
        commit_part(target, part, pa.Table.from_pylist(decided), partition_by="status")
        assert is_done(target, part, "status")
    assert [path.parent.name for path in part_files(target)] == ["status=failed", "status=kept"]
    assert sorted(row["n"] for row in read_rows(target)) == list(range(10))
    assert contents_of(target) == Contents.of(map(str, range(10)))


def test_a_part_of_which_a_file_is_lost_is_left(source: Path, target: Path) -> None:
    part, *_ = remaining(source, target, 10).parts
    decided = [row | {"status": "kept" if row["n"] % 2 else "failed"} for row in read_part(part)]
    commit_part(target, part, pa.Table.from_pylist(decided), partition_by="status")
    assert part not in remaining(source, target, 10).parts
    (target / "status=kept" / "part-0000000.parquet").unlink()
    assert remaining(source, target, 10).parts[0] == part
    assert not is_done(target, part, "status")


@pytest.mark.parametrize("damage", [b"", b"PAR1"])
def test_a_part_that_cannot_be_read_is_left_and_named_in_one_line(
    source: Path, target: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = remaining(source, target, 10).parts
    for part in parts:
        commit(target, part)
    (target / "part-0000001.parquet").write_bytes(damage)
    assert remaining(source, target, 10).parts == [parts[1]]
    assert capsys.readouterr().out == f"{target}/part-0000001.parquet cannot be read: it is made anew\n"
    commit(target, parts[1])
    assert [row["n"] for row in read_rows(target)] == list(range(25))


def test_a_copy_of_a_part_stands_for_no_other(source: Path, target: Path) -> None:
    first, second, _ = remaining(source, target, 10).parts
    commit(target, first)
    (target / "part-0000001.parquet").write_bytes((target / "part-0000000.parquet").read_bytes())
    assert second in remaining(source, target, 10).parts
    assert not is_done(target, second)


def test_an_input_that_cannot_be_read_is_refused(source: Path, target: Path) -> None:
    (source / "part-000.parquet").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"part-000\.parquet cannot be read: remove it, and run the stage that makes it"
    ):
        remaining(source, target, 10)


def test_parts_that_an_earlier_version_marked_as_done_are_not_made_again(source: Path, target: Path) -> None:
    parts = remaining(source, target, 10).parts
    (target / CHECKPOINT).mkdir()
    write_json(target / CHECKPOINT / "layout.json", {"rows_per_part": 10})
    for part in parts[:2]:
        pq.write_table(pa.Table.from_pylist(read_part(part)), target / f"{part['name']}.parquet")
    (target / CHECKPOINT / parts[0]["name"]).touch()
    (target / CHECKPOINT / parts[2]["name"]).touch()
    # The second has no mark, the third no rows.
    assert remaining(source, target, 4).parts == parts[1:]


def test_each_pass_makes_parts_of_its_own_all_of_the_first_before_the_second(source: Path, target: Path) -> None:
    left = remaining(source, target, 10, passes=2)
    assert [part["turn"] for part in left.parts] == [0, 0, 0, 1, 1, 1]
    assert [row["n"] for part in left.parts for row in read_part(part)] == [*range(25), *range(25)]
    assert (left.rows, left.done) == (50, 0)
    commit(target, left.parts[1])
    assert [is_done(target, part) for part in left.parts] == [False, True, False, False, False, False]
    commit(target, left.parts[4])
    commit(target, left.parts[5])
    again = remaining(source, target, 10, passes=2)
    assert again.parts == [left.parts[0], left.parts[2], left.parts[3]]
    assert (again.rows, again.done) == (25, 25)
    for part in again.parts:
        commit(target, part)
    assert not remaining(source, target, 10, passes=2).parts
    # What the passes made of the same rows stands together.
    assert [row["n"] // 10 for row in read_rows(target)] == [0] * 20 + [1] * 20 + [2] * 10


def test_a_part_from_when_all_passes_were_in_one_is_not_made_again(source: Path, target: Path) -> None:
    first, *_ = remaining(source, target, 10).parts
    commit(target, first)
    left = remaining(source, target, 10, passes=2)
    assert [read_part(part)[0]["n"] for part in left.parts] == [10, 20, 10, 20]
    assert (left.rows, left.done) == (30, 20)


def test_rows_that_failed_are_known_to_the_next_attempt_and_make_no_part_done(source: Path, target: Path) -> None:
    first, second, *_ = remaining(source, target, 3).parts
    mark_failed(target, first, 1, "it blocked")
    mark_failed(target, first, 2, "so did it")
    assert marked_failed(target, first) == {1: "it blocked", 2: "so did it"}
    assert marked_failed(target, second) == {}
    # Cut by another size, the part of that name has other rows at those places.
    assert marked_failed(target, remaining(source, target, 2).parts[0]) == {}
    assert parts_done(target) == 0 and remaining(source, target, 3).done == 0
    forget_checkpoint(target)
    assert not (target / CHECKPOINT).exists()
