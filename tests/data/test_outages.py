"""A storage that is away for a while, slow, or refuses once is waited for, and told of; not for ever."""

import errno
import pickle
import time

import pyarrow as pa
import pytest

from s2d_ray.data import buckets
from s2d_ray.data.files import read_json, read_rows, update_json, write_table
from s2d_ray.data.outages import impatient
from s2d_ray.data.status import attempting
from s2d_ray.data.storage import RemotePath, filesystem, remove
from s2d_ray.errors import UserError
from tests.proxy import Mishap, Proxy, always, away_for


def use(remote: RemotePath) -> None:
    """Everything that stages do there."""
    (remote / "a" / "one").touch(exist_ok=False)
    (remote / "a" / "two").write_text("2")
    write_table(remote / "b" / "part-0.parquet", pa.table({"n": list(range(100))}))
    assert [row["n"] for row in read_rows(remote / "b")] == list(range(100))
    assert (remote / "a").is_dir() and sorted(path.name for path in remote.glob("*/t*")) == ["two"]
    with (remote / "a" / "two").open("rb") as file:
        assert file.read() == b"2"
    update_json(remote / "c.json", lambda found: {"was": found})
    update_json(remote / "c.json", lambda found: {"was": found})
    assert read_json(remote / "c.json") == {"was": {"was": None}}
    (remote / "a" / "two").unlink()
    remove(remote / "b")
    assert not (remote / "b").exists()


def test_each_request_may_be_refused_once(remote: RemotePath, proxy: Proxy) -> None:
    known = set[str]()

    def first_time(_: int, request: str) -> Mishap:
        if request in known:
            return None
        known.add(request)
        return "forbidden"

    proxy.mishap = first_time
    use(remote)
    assert proxy.mishaps >= 15


@pytest.mark.slow
def test_each_answer_may_be_slow(remote: RemotePath, proxy: Proxy) -> None:
    proxy.mishap = lambda number, _: 4.0 if number % 5 == 0 else None
    use(remote)
    assert proxy.mishaps >= 3


@pytest.mark.slow
def test_an_outage_is_waited_for_and_told_of_in_one_line(
    remote: RemotePath, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.mishap = away_for(9)
    (remote / "file").write_text("whole")
    proxy.mishap = away_for(9)
    assert (remote / "file").read_text() == "whole"
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"waiting for {remote}/file since ") and line.endswith(": HTTP error: error sending request")


def test_an_outage_without_end_is_told_with_what_to_do(
    remote: RemotePath, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "OUTAGE_SECONDS", 2.0)
    monkeypatch.setattr(buckets, "REFUSAL_SECONDS", 1.0)
    mishaps: dict[Mishap, str] = {"away": "error sending request", "forbidden": "Access Denied"}
    for mishap, reason in mishaps.items():
        proxy.mishap = always(mishap)
        waited = rf"{reason}, for \d+ s now: once it is back, the same command goes on"
        with pytest.raises(OSError, match=waited) as caught:
            (remote / "file").read_text()
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, f"{remote}/file")
        with impatient(), pytest.raises(OSError, match=f"{reason}: '{remote}/file'$"):
            (remote / "file").read_text()


def test_pyarrow_remembers_how_often_to_try_where_it_is_pickled(remote: RemotePath) -> None:
    system, _ = filesystem(remote)
    assert pickle.loads(pickle.dumps(system)) is system


@pytest.mark.slow
def test_an_attempt_outlasts_an_outage_and_its_end_is_one_line(
    remote: RemotePath, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    with attempting(remote, beat=0.5, silence=60) as attempt, attempt.stage("generate"):
        proxy.mishap = away_for(12)
        time.sleep(20)
    assert read_json(remote / "status.json")["status"] == "succeeded"
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"waiting for {remote} since ")
    cannot = pytest.raises(UserError, match=rf"{remote} cannot be written to .*: once it can, the same command goes on")
    with cannot, attempting(remote, beat=0.5, silence=6) as attempt, attempt.stage("generate"):
        proxy.mishap = away_for(30)
        time.sleep(60)
        pytest.fail("it went on")
