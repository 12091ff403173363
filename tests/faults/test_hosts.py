"""`ray job submit` on hosts that share nothing but the root: a model of the hub by its name, or all in a bucket."""

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from s2d_ray.data.files import read_json
from tests.faults.hosts import SHARED, Host, hosts, missing
from tests.heads import RAY, SLOW_HEAD
from tests.object_storage import SERVER
from tests.stages.runs import BUSY_MACHINE, PATIENCE, write_corpus

MISSING = missing()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.engine,
    pytest.mark.train,
    pytest.mark.long,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
NAME = "somebody/tiny-model"
PORT = 8000
CPUS = 3
"""Of a worker host: an engine takes two and leaves one, and all training workers find no room on one host alone."""
HUB = f"""
import os, time
from pathlib import Path
from tests.hub import serving

with serving("0.0.0.0", {PORT}) as hub:
    hub.push("{NAME}", Path("{SHARED}/hub"))
    hub.repositories["{NAME}"].gated, hub.token = True, os.environ["HF_TOKEN"]
    said = 0
    while True:
        for said, request in enumerate(hub.requests[said:], said + 1):
            print(request, flush=True)
        time.sleep(0.2)
"""


@dataclass(frozen=True)
class Cluster:
    """A head, on which nothing is computed, and two workers, on a host each; one more host has what is fetched."""

    shared: Path
    server: Host
    head: Host
    workers: list[Host]

    def submit(self, recipe: str, *options: str) -> subprocess.CompletedProcess[str]:
        """What the README says, typed on the head."""
        job = [*RAY, "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", "."]
        return self.head.run([*job, "--", sys.executable, "jobs/run.py", recipe, *options], PATIENCE, **RAY_TOKEN)

    def jobs(self) -> str:
        """What Ray tells of its jobs."""
        return self.head.run([*RAY, "job", "list", "--address", "http://127.0.0.1:8265"], PATIENCE, **RAY_TOKEN).stdout

    def files_with(self, text: str) -> str:
        """Files of any host's Ray that have it, logs among them; the caches of models are not searched."""
        return "".join(host.run(["grep", "-rl", text, "/tmp"], PATIENCE).stdout for host in (self.head, *self.workers))


RAY_TOKEN = {"RAY_AUTH_MODE": "token", **BUSY_MACHINE, **SLOW_HEAD}


@contextmanager
def cluster(shared: Path, logs: Path, server: list[str], **environment: str) -> Iterator[Cluster]:
    """Ray on three hosts, and on a fourth what `server` gives the command of; all end with the block."""
    with hosts(shared, "server", "head", "one", "two") as (serving, head, *workers):
        serving.start(server, logs / "server.log", **environment)
        key = secrets.token_hex(32)
        for host in (head, *workers):
            host.run(["sh", "-c", f"mkdir ~/.ray && printf {key} > ~/.ray/auth_token"], 60).check_returncode()
        settings = {**environment, **RAY_TOKEN}
        at_head = [f"--node-ip-address={head.address}", "--head", "--port=6379", "--num-cpus=0"]
        at_head += ["--dashboard-host=127.0.0.1", "--dashboard-port=8265"]
        start = [*RAY, "start", "--block", "--disable-usage-stats", f"--object-store-memory={100 * 2**20}"]
        head.start([*start, *at_head], logs / "head.log", **settings)
        wait_for(logs / "head.log", "This command will now block")
        for host in workers:
            joining = [f"--address={head.address}:6379", f"--node-ip-address={host.address}", f"--num-cpus={CPUS}"]
            host.start([*start, *joining], logs / f"{host.name}.log", **settings)
        for host in workers:
            wait_for(logs / f"{host.name}.log", "This command will now block")
        yield Cluster(shared, serving, head, workers)


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def write_recipe(folder: Path, model: str, corpus: str) -> None:
    """A recipe whose engine, on one host, and training workers, on both, are real."""
    greedy = {"temperature": 0, "top_p": 1, "max_tokens": 8}
    engine = {"cpus": 2, "kv_cache_gib": 0.25, "max_model_len": 256}
    recipe = {
        "name": "trial",
        "model": model,
        "task": {"name": "prompts", "path": corpus},
        "method": "direct",
        "engine": engine | {"dtype": "float32", "max_sequences": 8},
        "generate": {"samples": 2, "commit_rows": 8, "sampling": greedy},
        "train": {"workers": 4, "steps": 2, "batch_size": 4, "micro_batch_size": 1, "lora": {"rank": 4}},
        "evaluate": {"controls": False, "sampling": greedy},
    }
    (folder / "trial.yaml").write_text(yaml.safe_dump(recipe))


def folder_for_all(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    (shared / "runs").mkdir(parents=True)
    return shared


def fetched(log: Path, file: str) -> list[str]:
    """Addresses of those that asked the hub for a file, once for each time."""
    return sorted(re.findall(rf"^GET \S+/{re.escape(file)} (\S+)$", log.read_text(), re.MULTILINE))


def test_a_model_of_the_hub_is_fetched_once_by_each_host_that_computes_with_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    shared, log = folder_for_all(tmp_path), tmp_path / "server.log"
    shutil.copytree(tiny_model, shared / "hub")
    write_corpus(shared / "corpus.jsonl", 48)
    write_recipe(shared, NAME, f"{SHARED}/corpus.jsonl")
    token = f"hf_{secrets.token_hex(16)}"
    settings = {"HF_ENDPOINT": f"http://server:{PORT}", "HF_TOKEN": token}
    with cluster(shared, tmp_path, [sys.executable, "-c", HUB], **settings) as ray:
        job = ray.submit(f"{SHARED}/trial.yaml", "--root", f"{SHARED}/runs")
        assert job.returncode == 0, job.stdout
        written = read_json(shared / "runs" / "trial" / "model" / "manifest.json")
        assert written["steps_by_workers"] == {"4": 2}, "it was not trained on both hosts"
        assert read_json(shared / "runs" / "trial" / "report" / "report.json")["arms"]["student"]
        assert fetched(log, "model.safetensors") == sorted(host.address for host in ray.workers)
        assert fetched(log, "config.json") == sorted(host.address for host in (ray.head, *ray.workers))
        # Nobody is told of the token but those who have it.
        assert token not in ray.jobs() and not ray.files_with(token)
    assert not [path for path in (shared / "runs").rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


UPLOAD = f"""
import boto3
from pathlib import Path

storage = boto3.client("s3")
storage.create_bucket(Bucket="results")
for file in Path("{SHARED}").rglob("*.*"):
    storage.upload_file(str(file), "results", str(file.relative_to("{SHARED}")))
"""
READ = """
import sys
from s2d_ray.data.storage import location

print(location(sys.argv[1]).read_text())
"""


def test_root_model_and_prompts_are_in_a_bucket(tmp_path: Path, tiny_model: Path) -> None:
    shared, log = folder_for_all(tmp_path), tmp_path / "server.log"
    shutil.copytree(tiny_model, shared / "model")
    write_corpus(shared / "corpus.jsonl", 48)
    write_recipe(shared, "s3://results/model", "s3://results/corpus.jsonl")
    secret = secrets.token_hex(16)
    keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}
    settings = keys | {"AWS_ENDPOINT_URL": f"http://server:{PORT}"}
    command = [sys.executable, "-c", SERVER, "-H", "0.0.0.0", "-p", str(PORT)]
    with cluster(shared, tmp_path, command, **settings) as ray:
        wait_for(log, "Press CTRL+C to quit")
        ray.server.run([sys.executable, "-c", UPLOAD], PATIENCE, **settings).check_returncode()
        job = ray.submit(f"{SHARED}/trial.yaml", "--root", "s3://results/runs")
        assert job.returncode == 0, job.stdout
        read = [sys.executable, "-c", READ, "s3://results/runs/trial/model/manifest.json"]
        written = json.loads(ray.server.run(read, PATIENCE, **settings).stdout)
        assert written["steps_by_workers"] == {"4": 2}, "it was not trained on both hosts"
        asked = re.findall(r'^(\S+) .*"GET /results/model/model.safetensors ', log.read_text(), re.MULTILINE)
        assert {asked.count(host.address) for host in ray.workers} == {1}, "a host fetched the model again"
        assert secret not in ray.jobs() and not ray.files_with(secret)
