"""A request's name can be made, read and used by nobody but the experiment's servers and who asked."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from s2d_ray.data.storage import RemotePath
from s2d_ray.experiment.request_ids import Asked, Asker, RequestIds, UnknownRequest, open_request_ids

ASKED = Asked(1_795_000_000, "student", 3, 31_000)
ADA = Asker("ada", client="k1", key="k1")


@pytest.fixture
def ids(tmp_path: Path) -> RequestIds:
    return open_request_ids(tmp_path / "request-ids.json")


@pytest.mark.parametrize("asked", [ASKED, replace(ASKED, version=None, arm="base"), replace(ASKED, rater=0)])
def test_what_was_made_is_read_again(ids: RequestIds, asked: Asked) -> None:
    names = {ids.make(asked, ADA) for _ in range(50)}
    assert len(names) == 50
    assert {ids.read(name, ADA) for name in names} == {asked}
    assert {(name.startswith("chatcmpl-"), len(name) <= 100) for name in names} == {(True, True)}


def test_a_name_does_not_tell_the_arm(ids: RequestIds) -> None:
    names = [ids.make(replace(ASKED, arm=arm), ADA) for arm in ("student", "teacher") for _ in range(200)]
    assert len({name[:20] for name in names}) == len({name[-8:] for name in names}) == 400


@pytest.mark.parametrize(
    "asker", [replace(ADA, user="eve"), replace(ADA, key="k2"), replace(ADA, named=False, user="eve"), Asker("")]
)
def test_another_user_or_key_reads_nothing(ids: RequestIds, asker: Asker) -> None:
    with pytest.raises(UnknownRequest):
        ids.read(ids.make(ASKED, ADA), asker)


def test_where_the_user_had_no_name_yet_the_key_decides(ids: RequestIds) -> None:
    name = ids.make(ASKED, Asker("made-up", named=False, key="k1"))
    assert ids.read(name, Asker("told-by-cookie", key="k1")) == ASKED
    assert ids.read(name, Asker("another", named=False, key="k1")) == ASKED
    with pytest.raises(UnknownRequest):
        ids.read(name, Asker("made-up", key="k2"))


def test_no_request_has_two_names(ids: RequestIds) -> None:
    name = ids.make(ASKED, ADA)
    others = [name[:i] + other + name[i:] for i in (0, 9, 20, len(name)) for other in ("\n", "=", "!", " ", "A")]
    for other in [*others, name + "==", name[9:], name.swapcase(), name[:-1], "", "chatcmpl-", "x", "chatcmpl-é"]:
        with pytest.raises(UnknownRequest):
            ids.read(other, ADA)


def test_another_experiment_knows_none_of_them(ids: RequestIds, tmp_path: Path) -> None:
    other = open_request_ids(tmp_path / "other.json")
    with pytest.raises(UnknownRequest):
        other.read(ids.make(ASKED, ADA), ADA)


def test_the_secret_is_its_owners_alone(ids: RequestIds, tmp_path: Path) -> None:
    assert (tmp_path / "request-ids.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("where", ["here", "in object storage"])
def test_servers_that_start_at_once_have_one_secret(where: str, tmp_path: Path, remote: RemotePath) -> None:
    path, barrier = (tmp_path if where == "here" else remote) / "request-ids.json", Barrier(4)

    def opened(_: int) -> RequestIds:
        barrier.wait()
        return open_request_ids(path)

    with ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(opened, range(4)))
    name = servers[0].make(ASKED, ADA)
    assert [server.read(name, ADA) for server in servers] == [ASKED] * 4


def test_a_secret_that_cannot_be_stored_is_this_servers_alone(tmp_path: Path) -> None:
    (tmp_path / "no-folder").touch()
    ids = open_request_ids(tmp_path / "no-folder" / "request-ids.json")
    assert ids.read(ids.make(ASKED, ADA), ADA) == ASKED
