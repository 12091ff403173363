"""`s2d run` ends with the command that serves its result, and that command does."""

import json
import os
import shlex
import signal
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from s2d_ray.data.folders import RunFolders
from s2d_ray.experiment.store import Snapshot
from s2d_ray.serving.ray_settings import SERVING_SETTINGS
from tests.serving.gateways import ask, replicas
from tests.stages.runs import COMMAND, REPOSITORY, exit_code, run, write_corpus, write_recipe

pytestmark = pytest.mark.train
PORT = 8124
# What Ray is to be told for serving is the command's business.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_SERVE_")}
# Workers find `tests.scripts` by it.
ENVIRONMENT["PYTHONPATH"] = str(REPOSITORY)
ADDRESS = f"http://127.0.0.1:{PORT}"


def healthy() -> bool:
    try:
        with urllib.request.urlopen(f"{ADDRESS}/healthz", timeout=2) as response:
            return bool(json.loads(response.read()) == {"status": "ok"})
    except OSError:
        return False


def test_a_finished_run_is_served_by_the_command_that_it_prints(tiny_model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 24)
    recipe = write_recipe(tmp_path, tiny_model, corpus, train={"steps": 1, "workers": 1})
    root = tmp_path / "runs"
    printed = run(["run", str(recipe)], root)
    [said] = [line for line in printed.splitlines() if line.startswith("serve it: ")]
    words = shlex.split(said.removeprefix("serve it: "))
    assert words[:2] == ["s2d", "serve"]

    described = subprocess.run([*COMMAND, *words[1:], "--config"], cwd=REPOSITORY, capture_output=True, text=True)
    assert exit_code(described.stdout) == 0
    [application] = yaml.safe_load(described.stdout.rpartition("exit code")[0])["applications"]
    assert application["args"] == {"recipe": str(recipe), "root": str(root), "overrides": []}

    nowhere = subprocess.run(
        [*COMMAND, *words[1:], "engine.device=gpu"],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert exit_code(nowhere.stdout) == 1
    assert "no room for an engine: that takes 1 CPU and 1 GPU on one node" in nowhere.stderr

    output = tmp_path / "output"
    with output.open("w") as file:
        serving = subprocess.Popen(
            [*COMMAND, *words[1:], "--port", str(PORT)], cwd=REPOSITORY, env=ENVIRONMENT, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + 240
        while not healthy():
            assert time.monotonic() < deadline
            assert serving.poll() is None, output.read_text()
            time.sleep(0.5)
        [gateway] = replicas("trial", "gateway")
        assert SERVING_SETTINGS.items() <= gateway.environ().items()
        sockets = Path(gateway.environ()["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert list(sockets.glob("*/admin.sock"))
        answers = [ask(ADDRESS, model) for model in ("s2d", "s2d:student", "s2d:teacher")]
        assert all(answer.choices[0].message.content for answer in answers)
        with urllib.request.urlopen(f"{ADDRESS}/ab", timeout=60) as response:
            assert "Side by side" in response.read().decode()
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(120)
    assert exit_code(output.read_text()) == 130
    assert not sockets.exists()
    stored = Snapshot(RunFolders(root / "trial").serving / "events").requests.to_table().to_pylist()
    assert sorted(row["request_id"] for row in stored) == sorted(answer.id for answer in answers)


def test_what_cannot_be_served_is_said_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 24))
    arguments = [*COMMAND, "serve", str(recipe), "--root", str(tmp_path)]
    for extra, said in (
        ([], "has no distilled model to serve: run `s2d run trial` first"),
        (["serve.host=0.0.0.0"], "set admin_token_env"),
        (["serve.api_keys_env=S2D_NO_SUCH_KEYS"], "S2D_NO_SUCH_KEYS, which is not set"),
    ):
        ended = subprocess.run([*arguments, *extra], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
        assert exit_code(ended.stdout) == 1
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
