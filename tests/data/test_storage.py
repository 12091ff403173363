"""Object storage is used as a folder is: addresses, files, artifacts and attempts, on a real S3 server."""

import os
import pickle
import shutil
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from obstore.store import S3Store

from s2d_ray.data.artifacts import INPUTS, MANIFEST, Artifact
from s2d_ray.data.buckets import Overtaken
from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import part_files, read_json, read_rows, update_json, write_table
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.lease import Replaced, time_spent
from s2d_ray.data.manifests import CandidatesManifest
from s2d_ray.data.shards import commit_part, read_part, remaining
from s2d_ray.data.status import attempting
from s2d_ray.data.storage import RemotePath, filesystem, filled, location, remove
from s2d_ray.errors import UserError
from s2d_ray.models import Model, resolve_model
from s2d_ray.recipes.strict import Named
from s2d_ray.report.overview import write_overview
from s2d_ray.report.report import write_report
from s2d_ray.tasks.registry import load_task
from tests.manifests import candidates_manifest
from tests.object_storage import SECRET
from tests.report.toy_run import ARMS, RECIPE, Toy, write_run


def test_an_address_is_a_path_like_any_other() -> None:
    path = location("s3://bucket/runs/trial/")
    assert (str(path), path.name, str(path.parent), path.is_absolute()) == (
        "s3://bucket/runs/trial",
        "trial",
        "s3://bucket/runs",
        True,
    )
    assert str(path / "parts" / "a.json") == "s3://bucket/runs/trial/parts/a.json"
    assert str((path / "parts" / "a").relative_to(path)) == "parts/a"
    assert pickle.loads(pickle.dumps(path)) == path == location(str(path))
    assert str(location("gs://bucket")) == "gs://bucket"
    assert str(location("az://container/runs/trial")) == "az://container/runs/trial"
    assert type(location("runs/s3")) is type(Path("runs"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://bucket/runs", "in no storage known here: write a path, s3://"),
        ("s4://bucket", "in no storage known here"),
        ("s3://", "names no bucket"),
        ("gs:///runs", "names no bucket"),
        ("az://container@account/runs", "credentials and options come from the environment"),
        ("s3://My_Bucket/runs", "names no bucket"),
        ("s3://bucket//runs", "has an empty part"),
        ("s3://bucket/../other", "one of dots alone"),
        ("s3://id:a/secret@bucket/runs", "credentials and options come from the environment"),
        ("s3://bucket/runs?secret_key=a/secret", "credentials and options come from the environment"),
    ],
)
def test_a_wrong_address_is_one_clear_line_that_repeats_no_secret(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        location(text)
    assert "a/secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    for section in ({"name": "prompts", "path": text}, {"name": "gsm8k", "path": text}):
        with pytest.raises(UserError, match=why):
            load_task(Named.model_validate(section))


def test_it_cannot_be_taken_for_a_local_file() -> None:
    with pytest.raises(TypeError, match="no path on this machine"):
        os.listdir(location("s3://bucket/runs"))
    with pytest.raises(TypeError):
        location("s3://bucket/runs").rename("elsewhere")


def test_files_and_folders(remote: RemotePath) -> None:
    assert not remote.exists() and not list(remote.iterdir()) and not list(remote.rglob("*"))
    (remote / "a" / "one.json").write_text("ä")
    (remote / "a" / "b" / "two.json").write_bytes(b"22")
    (remote / "three.txt").touch()
    assert (remote / "a").is_dir() and (remote / "three.txt").is_file() and not (remote / "a").is_file()
    assert (remote / "a" / "one.json").read_text() == "ä"
    assert sorted(path.name for path in remote.iterdir()) == ["a", "three.txt"]
    assert [path.name for path in (remote / "a").glob("*.json")] == ["one.json"]
    assert [str(path.relative_to(remote)) for path in remote.glob("*/b/two.json")] == ["a/b/two.json"]
    assert sorted(path.name for path in remote.rglob("*.json")) == ["one.json", "two.json"]
    with (remote / "a" / "b" / "two.json").open("rb") as file:
        assert (file.seek(0, os.SEEK_END), file.seek(1), file.read()) == (2, 1, b"2")
    with pytest.raises(FileNotFoundError):
        (remote / "none").read_text()
    (remote / "none").unlink(missing_ok=True)
    remove(remote / "a")
    assert [path.name for path in remote.iterdir()] == ["three.txt"]


def test_no_credentials_travel_with_a_storage(remote: RemotePath) -> None:
    (remote / "x").touch()
    system, _ = filesystem(remote)
    assert SECRET.encode() not in pickle.dumps((remote, system))


def test_no_credentials_travel_with_a_container_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", b64encode(SECRET.encode()).decode())
    path = location("az://container/runs")
    assert isinstance(path, RemotePath) and path.store
    pickled = pickle.dumps((path, filesystem(path)[0]))
    assert SECRET.encode() not in pickled and b64encode(SECRET.encode()) not in pickled


def test_an_account_that_nothing_names_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with (
        pytest.raises(UserError, match="give its name as AZURE_STORAGE_ACCOUNT_NAME") as caught,
        attempting(location("az://none/runs")),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_profiles_of_the_aws_command_are_read(s3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(f"[profile other]\naws_access_key_id = its-id\naws_secret_access_key = {SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    store = RemotePath("s3:", "of-a-profile").store
    assert isinstance(store, S3Store) and store.credential_provider is not None
    credential = store.credential_provider()
    assert isinstance(credential, dict) and credential["access_key_id"] == "its-id"


def test_a_bucket_that_is_not_there_is_one_clear_line(s3: Path) -> None:
    with (
        pytest.raises(UserError, match=r"cannot write to s3://no-such-bucket/runs: .*bucket does not exist"),
        attempting(location("s3://no-such-bucket/runs")),
    ):
        pass


def test_an_artifact(remote: RemotePath) -> None:
    artifact = Artifact(remote / "candidates", {"samples": 4}, CandidatesManifest)
    assert not artifact.open()
    write_table(remote / "candidates" / "part-0.parquet", pa.table({"n": [1, 2]}))
    artifact.finish(candidates_manifest(2))
    assert artifact.open()
    assert Artifact.existing(remote / "candidates", CandidatesManifest).manifest.rows == 2
    assert [row["n"] for row in read_rows(remote / "candidates")] == [1, 2]
    other = Artifact(remote / "candidates", {"samples": 8}, CandidatesManifest)
    with pytest.raises(UserError, match="samples: 4 there, 8 now"):
        other.open()
    assert not other.open(overwrite=True)
    assert [path.name for path in (remote / "candidates").rglob("*")] == [INPUTS]


def test_what_was_being_discarded_is_not_gone_on_from(remote: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = Artifact(remote / "candidates", {"samples": 4}, CandidatesManifest)
    artifact.open()
    write_table(remote / "candidates" / "part-0.parquet", pa.table({"n": [1, 2]}))
    artifact.finish(candidates_manifest())

    def fail(*_: object) -> None:
        raise OSError("the storage is gone")

    with monkeypatch.context() as broken:
        broken.setattr("s2d_ray.data.artifacts.remove", fail)
        with pytest.raises(UserError, match="the storage is gone"):
            artifact.open(overwrite=True)
    with pytest.raises(UserError, match="discarded"):
        artifact.open()
    assert not artifact.open(overwrite=True)
    assert not part_files(remote / "candidates")


def test_parts_are_committed_and_resumed(remote: RemotePath) -> None:
    source, target = remote / "source", remote / "target"
    write_table(source / "part-0.parquet", pa.table({"n": list(range(25)), "prompt_id": list(map(str, range(25)))}))
    first, *others = remaining(source, target, 10).parts
    decided = pa.Table.from_pylist([row | {"status": "kept" if row["n"] % 2 else "failed"} for row in read_part(first)])
    commit_part(target, first, decided, "status")
    again = remaining(source, target, 10)
    assert (list(again.parts), again.done) == (others, 10)
    commit_part(target, first, decided.slice(1, 1), "status")
    assert [str(path.relative_to(target)) for path in part_files(target)] == ["status=kept/part-0000000.parquet"]
    assert remaining(source, target, 10).done == 10


def test_a_second_attempt_is_refused_and_a_dead_one_is_replaced(remote: RemotePath) -> None:
    with (
        attempting(remote, beat=0.2) as first,
        pytest.raises(UserError, match=rf"attempt 1 .* is at work in {remote}"),
        attempting(remote),
    ):
        pass
    assert read_json(remote / "status.json")["status"] == "succeeded"
    with attempting(remote) as second, second.stage("generate"):
        Artifact(remote / "candidates", {}, CandidatesManifest).open()
        time.sleep(0.2)
    assert (first.number, second.number) == (1, 2)
    assert time_spent(remote)["candidates"].seconds >= 0.2


def test_a_replaced_attempt_writes_no_manifest(remote: RemotePath) -> None:
    artifact = Artifact(remote / "candidates", {}, CandidatesManifest)
    with pytest.raises(Replaced), attempting(remote, beat=60):
        artifact.open()
        (remote / "attempts" / "00002.json").write_text("{}")
        artifact.finish(candidates_manifest())
    assert not (remote / "candidates" / MANIFEST).exists()


def test_of_many_at_once_one_creates_a_file(remote: RemotePath) -> None:
    created, refused = [], []

    def create(number: int) -> None:
        try:
            (remote / "file").touch(exist_ok=False)
            created.append(number)
        except FileExistsError:
            refused.append(number)

    at_once(create)
    assert len(created) == 1 and len(refused) == 7
    assert [path.name for path in remote.iterdir()] == ["file"]


def test_what_has_changed_since_it_was_read_is_not_overwritten(remote: RemotePath) -> None:
    path = remote / "file"
    path.write_bytes(b"one")
    content, version = path.read_version()
    path.put(b"two", version)
    with pytest.raises(Overtaken):
        path.put(b"three", version)
    with pytest.raises(FileExistsError):
        path.put(b"four", "create")
    assert (content, path.read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("where", ["here", "in object storage"])
def test_of_changes_at_once_none_is_lost(remote: RemotePath, tmp_path: Path, where: str) -> None:
    path = (tmp_path if where == "here" else remote) / "file.json"

    def add(number: int) -> None:
        for _ in range(5):
            update_json(path, lambda found: {"by": [*(found["by"] if found else []), number]})

    at_once(add)
    assert sorted(read_json(path)["by"]) == sorted(5 * list(range(8)))
    with pytest.raises(ZeroDivisionError):
        update_json(path, lambda _: 1 / 0)
    assert len(read_json(path)["by"]) == 40


def at_once(do: Callable[[int], None]) -> None:
    """Call it in eight threads, with their numbers."""
    barrier = threading.Barrier(8)

    def wait(number: int) -> None:
        barrier.wait()
        do(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(wait, range(8)))


def test_an_empty_object_that_stands_for_a_folder_is_no_file(remote: RemotePath) -> None:
    for name in ("model/", "model/empty/", "model/full/", "marks/"):
        boto3.client("s3").put_object(Bucket="results", Key=f"{remote.name}/{name}", Body=b"")
    (remote / "model" / "full" / "mark").touch()
    assert (remote / "model").is_dir() and not (remote / "model").is_file() and not (remote / "marks").exists()
    assert sorted(path.name for path in (remote / "model").iterdir()) == ["empty", "full"]
    copy = local_copy(remote / "model")
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == ["full", "full/mark"]
    remove(remote / "model")
    assert not (remote / "model").exists()


@pytest.mark.slow
def test_reports_are_the_same_wherever_the_results_are(remote: RemotePath, tmp_path: Path) -> None:
    here = write_run(tmp_path / "trial", Toy(), ARMS[:3])
    with filled(remote / "trial") as folder:
        shutil.copytree(here.base, folder, dirs_exist_ok=True)
    there = RunFolders(remote / "trial")
    assert write_report(RECIPE, Toy(), there) == write_report(RECIPE, Toy(), here)
    assert (there.report / "report.html").read_text() == (here.report / "report.html").read_text()
    [line] = write_overview(RECIPE, [{"": there}], remote / "overview").lines
    assert line.report == "../trial/report/report.html"


def test_a_model_is_the_same_model_wherever_it_is(remote: RemotePath, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (tmp_path / name).write_text(f"the {name}")
        (remote / "model" / name).write_text(f"the {name}")
    found = resolve_model(str(remote / "model"))
    assert found.identity == Model.local("here", tmp_path).identity
    assert found.folder == remote / "model"
    with pytest.raises(UserError, match=f"no model folder {remote}/other"):
        resolve_model(str(remote / "other"))


@pytest.mark.parametrize("several", [False, True])
def test_prompts_are_read_where_they_are(remote: RemotePath, several: bool) -> None:
    lines = [f'{{"prompt": "What is {n}?", "answer": "{n}"}}\n' for n in range(40)]
    (remote / "corpus" / "a.jsonl").write_text("".join(lines[:20]))
    (remote / "corpus" / "b.jsonl").write_text("".join(lines[20:]))
    path = remote / "corpus" if several else remote / "corpus" / "a.jsonl"
    task = load_task(Named.model_validate({"name": "prompts", "path": str(path), "reference_column": "answer"}))
    found = [item for split in ("train", "test") for item in task.items(split, 0)]
    assert {item.prompt.text for item in found} == {f"What is {n}?" for n in range(40 if several else 20)}
    assert task.model_dump(mode="json")["path"] == str(path)


def test_prompts_that_are_not_there_are_one_clear_line(remote: RemotePath) -> None:
    for name in ("prompts", "gsm8k"):
        task = load_task(Named.model_validate({"name": name, "path": str(remote / "none.jsonl")}))
        with pytest.raises(UserError, match=f"no .*file or folder {remote}/none.jsonl"):
            next(task.items("train", 0))


def test_rows_of_a_data_set_are_read_from_a_copy(remote: RemotePath) -> None:
    (remote / "gsm.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "It is 2.\\n#### 2"}\n')
    options = {"name": "gsm8k", "path": str(remote / "gsm.jsonl"), "test_path": str(remote / "gsm.jsonl")}
    [item] = load_task(Named.model_validate(options)).items("test", 0)
    assert item.references == ["2"]


def test_logs_are_on_this_machine(remote: RemotePath, tmp_path: Path) -> None:
    assert RunFolders(remote).logs == tmp_path / "cache" / "logs" / "results" / remote.name
    assert RunFolders(tmp_path).logs == tmp_path / "logs"
