"""`ray job submit` on a real head: the whole pipeline, its log and its results; stopped in the middle, it goes on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from s2d_ray.data.files import read_json
from s2d_ray.data.shards import parts_done
from s2d_ray.data.status import RunStatus
from s2d_ray.runs.pipeline import STAGES
from s2d_ray.runs.run import Run
from tests.heads import RAY, free_port, started, wait_for
from tests.stages.runs import PATIENCE, REPOSITORY, ids, write_corpus, write_recipe
from tests.stages.test_resume import FEW_PARTS

pytestmark = pytest.mark.ray
ROWS = 600
"""Generated for long enough that another job is refused meanwhile."""


@dataclass(frozen=True)
class Head:
    """A running head, with its job server."""

    address: str
    environment: Mapping[str, str]
    """Lets a process in."""

    def ray(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ray job <command>`."""
        return subprocess.run(
            [*RAY, "job", command, "--address", self.address, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )

    def submit(self, job: str, *arguments: object, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """Submit `jobs/<job>.py` and, if `wait`, follow its log to its end."""
        options = ["--working-dir", str(REPOSITORY), *([] if wait else ["--no-wait"])]
        return self.ray("submit", *options, "--", sys.executable, f"jobs/{job}.py", *map(str, arguments))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head with the job server."""
    dashboard, cores = free_port(), (os.cpu_count() or 1) + 4
    serving = ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    room = [f"--num-cpus={cores}", f"--object-store-memory={256 * 2**20}"]
    with started(free_port(), *serving, *room) as running:
        found = Head(f"http://127.0.0.1:{dashboard}", running.environment)
        wait_for(lambda: found.ray("list").returncode == 0)
        yield found


@pytest.mark.train
def test_a_job_runs_the_pipeline_to_its_report(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 40)
    recipe = write_recipe(tmp_path, tiny_model, corpus, train={"steps": 3, "batch_size": 4, "micro_batch_size": 4})
    job = head.submit("run", recipe, "seed=3", "--root", tmp_path)
    assert job.returncode == 0, job.stdout
    results = tmp_path / "trial"
    status = RunStatus.read(results / "status.json")
    assert (status.status, status.attempt, status.stage) == ("succeeded", 1, None)
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


@pytest.mark.long
def test_a_stopped_job_goes_on_when_it_is_submitted_again(head: Head, tmp_path: Path, tiny_model: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "slow_oracle")
    candidates = tmp_path / "trial" / "candidates"
    submitted = head.submit("run", recipe, "--until", "curate", "--root", tmp_path, wait=False)
    [submission] = set(re.findall(r"raysubmit_\w+", submitted.stdout))
    wait_for(lambda: parts_done(candidates) >= FEW_PARTS)

    second = head.submit("curate", recipe, "--root", tmp_path)
    assert second.returncode == 1
    # Ray shows the end of a failed job's log once more.
    [refused] = {line for line in second.stdout.splitlines() if line.startswith("s2d: ")}
    assert f"attempt 1 (Ray job {submission}" in refused

    head.ray("stop", submission)
    assert "was stopped" in head.ray("status", submission).stdout
    status = read_json(tmp_path / "trial" / "status.json")
    assert (status["status"], status["stage"], status["attempt"]) == ("stopped", "generate", 1)
    before = parts_done(candidates)
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
    Run(recipe, root=tmp_path).ingest()
    job = head.submit("generate", recipe, "--root", tmp_path)
    assert job.returncode == 1
    status = read_json(tmp_path / "trial" / "status.json")
    assert (status["status"], status["stage"]) == ("failed", "generate")
    assert "max_failed_share" in status["error"]
    assert status["error"] in " ".join(job.stdout.split())
