"""Whole stages before an object storage that is away for a minute, slow, and refuses now and then."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s2d_ray.data.files import read_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.shards import parts_done
from s2d_ray.data.storage import RemotePath
from tests.proxy import Mishap, Proxy, away_for, proxy_to
from tests.stages.runs import PATIENCE, exit_code, finished, ids, run, start, write_corpus, write_recipe
from tests.stages.test_object_storage import log_lines, upload
from tests.stages.test_resume import FEW_PARTS, ROWS, wait_for

pytestmark = pytest.mark.long


@pytest.fixture
def proxied(remote: RemotePath) -> Iterator[tuple[Proxy, str]]:
    with proxy_to(os.environ["AWS_ENDPOINT_URL"]) as found:
        yield found


def bad_day(seconds_away: float) -> Callable[[int, str], Mishap]:
    """Away from now on for so long; then each file is refused once, and every twentieth answer takes 5 s."""
    away, refused = away_for(seconds_away), set[str]()

    def mishap(number: int, request: str) -> Mishap:
        if away(number, request):
            return "away"
        # pyarrow's own requests, for Ray Train's record of its checkpoints, are repeated only where nothing answers.
        if request not in refused and "/candidates/" in request:
            refused.add(request)
            return "forbidden"
        return None if number % 20 else 5.0

    return mishap


@pytest.mark.train
def test_a_run_outlasts_them_to_its_report(
    remote: RemotePath, proxied: tuple[Proxy, str], tmp_path: Path, tiny_model: Path
) -> None:
    proxy, address = proxied
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    training = {"epochs": 4, "batch_size": 8, "micro_batch_size": 8, "checkpoint_steps": 2, "lora": None}
    recipe = write_recipe(
        tmp_path, upload(tiny_model, remote / "model"), corpus, "slow_oracle", train={**training, "max_failures": 0}
    )
    folders = RunFolders(remote / "runs" / "trial")
    process = start(["run", str(recipe)], remote / "runs", AWS_ENDPOINT_URL=address)
    wait_for(lambda: parts_done(folders.candidates) >= FEW_PARTS, process, PATIENCE)
    proxy.mishap = bad_day(60)
    wait_for(lambda: len(log_lines(folders)) >= 2, process, PATIENCE)
    proxy.mishap = bad_day(60)
    printed = finished(process)
    assert printed.count("waiting for s3://results/") == 2
    assert read_json(folders.candidates / "manifest.json")["resumed"] == 0
    assert ids(folders.candidates) == ids(folders.prompts) and set(ids(folders.candidates).values()) == {1}
    assert read_json(folders.report / "report.json")["arms"]["student"]
    assert proxy.mishaps > 10


@pytest.mark.ray
def test_an_outage_without_end_ends_a_run_that_goes_on_later(
    remote: RemotePath, proxied: tuple[Proxy, str], tmp_path: Path, tiny_model: Path
) -> None:
    proxy, address = proxied
    corpus = write_corpus(tmp_path / "corpus.jsonl", ROWS)
    recipe = write_recipe(tmp_path, upload(tiny_model, remote / "model"), corpus, "slow_oracle")
    folders = RunFolders(remote / "runs" / "trial")
    command = ["run", str(recipe), "--until", "curate"]
    process = start(command, remote / "runs", AWS_ENDPOINT_URL=address)
    wait_for(lambda: parts_done(folders.candidates) >= FEW_PARTS, process, PATIENCE)
    proxy.mishap = away_for(PATIENCE)
    said, _ = process.communicate(timeout=PATIENCE)
    *_, waiting, last, _ = said.splitlines()
    assert exit_code(said) == 1 and "Traceback" not in said
    assert waiting.startswith("waiting for s3://results/") and last.startswith("s2d: s3://results/")
    assert last.endswith("the same command goes on where it stopped")
    run(command, remote / "runs")
    assert read_json(folders.candidates / "manifest.json")["resumed"] >= FEW_PARTS
    assert ids(folders.candidates) == ids(folders.prompts)
