"""`ray job submit` on a real head: the whole pipeline, its log and its results; stopped in the middle, it goes on."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from s2d_ray.artifacts import read_json
from s2d_ray.pipeline import STAGES
from tests.stages.runs import REPOSITORY, ids, write_corpus, write_recipe
from tests.stages.test_resume import FEW_PARTS, ROWS, committed

pytestmark = pytest.mark.ray
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True)
class Head:
    """A running head, with its job server."""

    address: str
    gcs: str
    """Where drivers outside of jobs join it."""

    def submit(self, job: str, *arguments: object, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """Submit `jobs/<job>.py` and, if `wait`, follow its log to its end."""
        options = ["--address", self.address, "--working-dir", str(REPOSITORY), *([] if wait else ["--no-wait"])]
        entrypoint = [sys.executable, f"jobs/{job}.py", *map(str, arguments)]
        return ray("job", "submit", *options, "--", *entrypoint)

    def stop(self, submission: str) -> None:
        ray("job", "stop", "--address", self.address, submission)

    def status(self, submission: str) -> str:
        return ray("job", "status", "--address", self.address, submission).stdout


def ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RAY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """`ray start --head`, ended with all that it started."""
    port, dashboard = free_port(), free_port()
    # A head that this process was told of would be joined instead.
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    # Ray's sockets lie in this folder, and the kernel takes short paths only.
    with TemporaryDirectory(prefix="r", dir="/tmp") as folder, open(Path(folder) / "log", "w") as log:
        process = subprocess.Popen(
            [
                *[*RAY, "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}"],
                *["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--disable-usage-stats"],
                *[f"--num-cpus={(os.cpu_count() or 1) + 4}", f"--object-store-memory={256 * 2**20}"],
                *[f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"],
            ],
            env=environment | {"RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        found = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}")
        try:
            wait_for(lambda: ray("job", "list", "--address", found.address).returncode == 0, 60)
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def wait_for(happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


@pytest.mark.train
def test_a_job_runs_the_pipeline_to_its_report(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 40)
    recipe = write_recipe(tmp_path, tiny_model, corpus, train={"max_steps": 3, "batch_size": 4, "micro_batch_size": 4})
    job = head.submit("run", recipe, "seed=3", "--root", tmp_path)
    assert job.returncode == 0, job.stdout
    results = tmp_path / "trial"
    assert read_json(results / "status.json") | {"ended": ""} == {"status": "succeeded", "attempt": 1, "ended": ""}
    log = job.stdout
    positions = [log.index(f"\n{stage}\n") for stage in STAGES]
    assert positions == sorted(positions)
    assert re.search(r"generate: \d+/\d+ rows", log)
    assert "paid for after" in log
    report = read_json(results / "report" / "report.json")
    assert report["settings"]["seed"] == 3
    assert set(report["ledger"]["work"]) == {"generate", "curate", "train"}
    assert (results / "model" / "model.safetensors").is_file()
    again = head.submit("evaluate", recipe, "seed=3", "--root", tmp_path)
    assert again.returncode == 0, again.stdout
    assert read_json(results / "status.json")["attempt"] == 2


def test_a_stopped_job_goes_on_when_it_is_submitted_again(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "slow_oracle")
    candidates = tmp_path / "trial" / "candidates"
    submitted = head.submit("run", recipe, "--until", "curate", "--root", tmp_path, wait=False)
    [submission] = set(re.findall(r"raysubmit_\w+", submitted.stdout))
    wait_for(lambda: committed(candidates) >= FEW_PARTS, 120)

    second = head.submit("curate", recipe, "--root", tmp_path)
    assert second.returncode == 1
    refused = [line for line in second.stdout.splitlines() if line.startswith("s2d: ")]
    assert len(refused) == 1
    assert f"attempt 1 (Ray job {submission}" in refused[0]

    head.stop(submission)
    assert "STOPPED" in head.status(submission)
    status = read_json(tmp_path / "trial" / "status.json")
    assert (status["status"], status["stage"], status["attempt"]) == ("stopped", "generate", 1)
    before = committed(candidates)
    again = head.submit("run", recipe, "--until", "curate", "--root", tmp_path)
    assert again.returncode == 0, again.stdout
    manifest = read_json(candidates / "manifest.json")
    assert manifest["resumed"] >= before * 8, "finished prompts were generated again"
    assert ids(candidates) == ids(tmp_path / "trial" / "prompts")
    assert set(ids(candidates).values()) == {1}
    assert read_json(tmp_path / "trial" / "status.json")["status"] == "succeeded"


def test_a_job_that_fails_says_where_and_why(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 20)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "always_failing")
    job = head.submit("generate", recipe, "--root", tmp_path)
    assert job.returncode == 1
    status = read_json(tmp_path / "trial" / "status.json")
    assert (status["status"], status["stage"]) == ("failed", "generate")
    assert "max_failed_share" in status["error"]
    assert status["error"] in " ".join(job.stdout.split())


def test_a_plan_measures_a_sample(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 200)
    recipe = write_recipe(tmp_path, tiny_model, corpus)
    command = [sys.executable, "-c", "from s2d_ray.cli import main; main()", "plan", recipe, "--measure", "16"]
    size = ["--prompts", "1000000", "--params-b", "7", "--tokens-per-second", "1000", "--price-per-gpu-hour", "2"]
    addressed = os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": head.gcs, "COLUMNS": "200"}
    planned = subprocess.run(
        [*command, *size], cwd=REPOSITORY, env=addressed, capture_output=True, text=True, timeout=240
    )
    assert planned.returncode == 0, planned.stderr
    assert "measured: trial, 16 prompts" in planned.stdout
    lines = {tuple(line.split()[:2]): line.split() for line in planned.stdout.splitlines()}
    generated = [float(lines["s2a:", step][-1]) for step in ("rewrite", "respond")]
    gpu_hours = float(lines["generate", "s2a"][3].replace(",", ""))
    assert gpu_hours >= sum(generated) * 1e6 / 1000 / 3600
    assert float(lines["generate", "s2a"][5].replace(",", "")) == pytest.approx(2 * gpu_hours, rel=0.01)
    assert not (REPOSITORY / "runs" / "trial").exists()
