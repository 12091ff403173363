"""Copies of what is in object storage: fetched once, kept while they are used, removed when there is no room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from s2d_ray.data import copies
from s2d_ray.data.copies import local_copy, release
from s2d_ray.data.storage import RemotePath, cache_dir, filled
from s2d_ray.errors import UserError
from tests.small_disk import NEEDS_ROOT, small_disk

MIB = 2**20
USER = """
import sys
from s2d_ray.data.copies import local_copy
from s2d_ray.data.storage import location
print(local_copy(location(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def put(remote: RemotePath, *names: str) -> list[RemotePath]:
    """Folders with a file of 1 MiB each."""
    for name in names:
        (remote / name / "weights").write_bytes(os.urandom(MIB))
    return [remote / name for name in names]


def limit(monkeypatch: pytest.MonkeyPatch, mib: float) -> None:
    monkeypatch.setenv("S2D_CACHE_GIB", str(mib / 1024))


@contextmanager
def used_elsewhere(path: RemotePath) -> Iterator[subprocess.Popen[str]]:
    """While the block runs another process uses a copy, unless it is killed."""
    command = [sys.executable, "-c", USER, str(path)]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and Path(process.stdout.readline().strip()).is_dir()
            yield process
        finally:
            process.kill()


def test_a_folder_is_copied_once_for_all_that_ask(remote: RemotePath, s3: Path) -> None:
    with filled(remote / "model") as folder:
        (folder / "adapter").mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "adapter" / "weights").write_text("one")
    with ThreadPoolExecutor(4) as pool:
        [copy] = set(pool.map(lambda _: local_copy(remote / "model"), range(4)))
    assert copy.name == "model" and (copy / "adapter" / "weights").read_text() == "one"
    assert local_copy(remote / "model") == copy
    assert s3.read_text().count(f"GET /results/{remote.name}/model/adapter/weights ") == 1
    assert [file.name for file in local_copy(remote / "model" / "adapter").iterdir()] == ["weights"]
    assert local_copy(remote / "model" / "config.json").read_text() == "{}"
    assert local_copy(copy) == copy


def test_what_has_changed_is_fetched_again_and_the_copy_before_goes_once_nothing_uses_it(remote: RemotePath) -> None:
    [model] = put(remote, "model")
    before = local_copy(model)
    (model / "weights").write_text("other")
    again = local_copy(model)
    assert (again / "weights").read_text() == "other" and (before / "weights").stat().st_size == MIB
    release(before)
    (model / "weights").write_text("a third")
    assert (local_copy(model) / "weights").read_text() == "a third"
    assert not before.exists() and again.exists()


def test_names_that_lead_out_of_a_folder_are_refused(remote: RemotePath) -> None:
    boto3.client("s3").put_object(Bucket="results", Key=f"{remote.name}/model/../../out.json", Body=b"{}")
    with pytest.raises(OSError, match=r"invalid path.*\.\."):
        local_copy(remote / "model")


def test_where_a_new_copy_would_not_fit_the_one_that_was_used_longest_ago_goes(
    remote: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 2.5)
    first, second, third = put(remote, "first", "second", "third")
    found = [local_copy(path) for path in (first, second, first)]
    for copy in found:
        release(copy)
    local_copy(third)
    assert found[0].exists() and not found[1].exists()


def test_a_copy_in_use_stays_and_what_does_not_fit_beside_it_is_refused(
    remote: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 1.5)
    here, other = put(remote, "here", "other")
    copy = local_copy(here)
    with pytest.raises(UserError, match=f"no room for a copy of {other}.*raise S2D_CACHE_GIB on this machine"):
        local_copy(other)
    assert (copy / "weights").stat().st_size == MIB
    release(copy)
    assert local_copy(other).exists() and not copy.exists()


def test_another_process_keeps_what_it_uses_until_it_ends(remote: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 1.5)
    theirs, ours = put(remote, "theirs", "ours")
    with used_elsewhere(theirs) as process:
        with pytest.raises(UserError, match="no room"):
            local_copy(ours)
        process.kill()
        process.wait()
        assert local_copy(ours).exists()
    release(local_copy(ours))
    with used_elsewhere(theirs):
        assert not list((cache_dir() / "copies").glob("*/ours"))


def test_a_disk_keeps_some_room(remote: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    [model] = put(remote, "model")
    monkeypatch.setattr(copies, "RESERVE", 2**60)
    with pytest.raises(UserError, match=r"no room .* 0 GiB are left in .*: set S2D_CACHE to a folder on a larger disk"):
        local_copy(model)


def test_what_a_killed_process_had_fetched_in_part_is_removed_and_not_used(remote: RemotePath) -> None:
    model, other = put(remote, "model", "other")
    copy = local_copy(model)
    release(copy)
    partial = copy.parent.rename(f"{copy.parent}.partial")
    (partial / "model" / "weights").write_text("half of")
    local_copy(other)
    assert not partial.exists()
    assert (local_copy(model) / "weights").stat().st_size == MIB


def test_a_limit_that_is_no_number_is_one_clear_line(remote: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2D_CACHE_GIB", "much")
    [model] = put(remote, "model")
    with pytest.raises(UserError, match="S2D_CACHE_GIB is much, and not a number of GiB"):
        local_copy(model)


@NEEDS_ROOT
def test_a_fetch_that_fills_the_disk_leaves_nothing_of_it(
    remote: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [model] = put(remote, "model")
    # As where others fill the disk meanwhile.
    monkeypatch.setattr(copies, "RESERVE", -(2**40))
    with small_disk(tmp_path / "disk", 512) as disk:
        monkeypatch.setenv("S2D_CACHE", str(disk))
        with pytest.raises(OSError, match="No space left on device") as caught:
            local_copy(model)
        assert str(caught.value.filename).startswith(str(disk))
        assert not list(disk.rglob("weights*"))
