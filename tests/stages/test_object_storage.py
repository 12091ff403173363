"""A run whose corpus, model and results are in object storage: killed, resumed, and free of secrets."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG, RunFolders
from s2d_ray.data.records import user
from s2d_ray.data.shards import parts_done
from s2d_ray.data.storage import RemotePath, filled
from s2d_ray.inference.start import start_engine
from s2d_ray.recipes.sections import Engine, Sampling
from tests.object_storage import SECRET
from tests.stages.runs import PATIENCE, exit_code, ids, run, start, write_corpus, write_recipe
from tests.stages.test_resume import FEW_PARTS, ROWS, kill_driver, wait_for
from tests.tiny_model import make_tiny_model

PROMPT = b"What is the number of case"


def upload(folder: Path, target: RemotePath) -> RemotePath:
    with filled(target) as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
    return target


def stored(folder: RemotePath) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def logged(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What is in a log folder, with Ray's session that it links to."""
    for where, _, names in os.walk(folder, followlinks=True):
        for path in (Path(where) / name for name in names):
            if path.is_file():
                yield str(path), path.read_bytes()


def log_lines(folders: RunFolders) -> list[str]:
    log = folders.model / TRAINING_LOG
    return log.read_text().splitlines() if log.exists() else []


def check_secrets(remote: RemotePath, folders: RunFolders, *printed: str) -> None:
    """No credentials in what was written anywhere, and no prompts in the logs."""
    logs = [*logged(folders.logs), *(("printed", text.encode()) for text in printed)]
    assert any(PROMPT in content for _, content in stored(remote)) and any(content for _, content in logs)
    assert not [name for name, content in (*stored(remote), *logs) if SECRET.encode() in content]
    assert not [name for name, content in logs if PROMPT in content]


@pytest.mark.ray
@pytest.mark.long
def test_generating_goes_on_after_a_kill(remote: RemotePath, tmp_path: Path, tiny_model: Path) -> None:
    write_corpus(tmp_path / "corpus.jsonl", ROWS)
    corpus = remote / "corpus.jsonl"
    corpus.write_bytes((tmp_path / "corpus.jsonl").read_bytes())
    recipe = write_recipe(tmp_path, upload(tiny_model, remote / "model"), corpus, "slow_oracle")
    folders = RunFolders(remote / "runs" / "trial")
    command = ["run", str(recipe), "--until", "curate"]

    process = start(command, remote / "runs")
    wait_for(lambda: parts_done(folders.candidates) >= FEW_PARTS, process, PATIENCE)
    second = start(command, remote / "runs")
    refused, _ = second.communicate(timeout=PATIENCE)
    assert exit_code(refused) == 1 and f"is at work in {folders.base}" in refused
    kill_driver(process)

    printed = run(command, remote / "runs")
    assert "attempt 2" in printed
    assert read_json(folders.candidates / "manifest.json")["resumed"] >= FEW_PARTS
    prompts = ids(folders.prompts)
    assert ids(folders.candidates) == prompts == ids(folders.distilled) and set(prompts.values()) == {1}
    assert read_json(folders.base / "status.json")["status"] == "succeeded"
    check_secrets(remote, folders, refused, printed)


@pytest.mark.train
def test_training_goes_on_after_a_kill_to_the_report(remote: RemotePath, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 60)
    training = {"epochs": 12, "batch_size": 8, "micro_batch_size": 8, "checkpoint_steps": 2, "lora": None}
    model = upload(tiny_model, remote / "model")
    recipe = write_recipe(tmp_path, model, corpus, train=training)
    folders = RunFolders(remote / "runs" / "trial")

    process = start(["run", str(recipe), "--until", "train"], remote / "runs")
    # The log is written with each checkpoint, just before it: the second time there is one to go on from.
    wait_for(lambda: len(log_lines(folders)) >= 4, process, PATIENCE)
    before = log_lines(folders)
    kill_driver(process)

    printed = run(["run", str(recipe)], remote / "runs")
    log = read_json_lines(folders.model / TRAINING_LOG)
    assert log_lines(folders)[:2] == before[:2], "training began anew"
    assert [entry["step"] for entry in log] == list(range(1, read_json(folders.model / "manifest.json")["steps"] + 1))
    assert not list(folders.model.glob("_train*"))
    assert (folders.model / "model.safetensors").is_file()
    assert read_json(folders.report / "report.json")["arms"]["student"]
    assert f"report: {folders.report}/report.html" in printed
    check_secrets(remote, folders, printed)


@pytest.mark.engine
@pytest.mark.long
def test_an_engine_starts_from_object_storage(remote: RemotePath, tmp_path: Path, tiny_model: Path) -> None:
    first = upload(tiny_model, remote / "model")
    second = upload(make_tiny_model(tmp_path / "other", seed=1, embedding_seed=0), remote / "other")

    async def said() -> list[str]:
        engine = await start_engine(Engine(kv_cache_gib=0.25, max_model_len=256), first, trust_remote_code=False)
        greedy, chat = Sampling(temperature=0, top_p=1, max_tokens=8), [user("Which country is the city of Lyon in?")]
        try:
            texts = []
            for model in (first, second, first):
                await engine.load(model)
                texts += [completion.text for completion in await engine.complete(chat, greedy, 1, 0)]
            return texts
        finally:
            engine.close()

    before, other, after = asyncio.run(said())
    assert before == after != other
