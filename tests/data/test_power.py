"""Power is lost at some moment, and the same work done again: the same ids, and nothing that blocks the folder."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.contents import Contents, check_contents, write_stamped
from s2d_ray.data.files import make_folder, read_rows
from s2d_ray.data.manifests import CandidatesManifest
from s2d_ray.data.shards import commit_part, read_part, remaining
from s2d_ray.data.status import attempting
from s2d_ray.data.storage import filled
from tests.manifests import candidates_manifest
from tests.power import Disk, disk

pytestmark = pytest.mark.slow
ROWS = 120
SILENCE = 0.3


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path) as made:
        yield made


def work(run: Path) -> None:
    """What a stage does to the disk: an attempt, inputs, parts in folders by their status, and a manifest."""
    with attempting(run, beat=0.02, silence=SILENCE) as attempt, attempt.stage("curate"):
        source = run / "source"
        make_folder(source)
        write_stamped(source / "part-0.parquet", pa.table({"prompt_id": [str(n) for n in range(ROWS)]}))
        artifact = Artifact(run / "distilled", {"seed": 0}, CandidatesManifest)
        if artifact.open():
            return
        for part in remaining(source, artifact.path, 3).parts:
            rows = [row | {"status": ("kept", "rejected")[int(row["prompt_id"]) % 2]} for row in read_part(part)]
            commit_part(artifact.path, part, pa.Table.from_pylist(rows), "status")
        check_contents(artifact.path, Contents.of(str(n) for n in range(ROWS)))
        artifact.finish(candidates_manifest(ROWS))


def in_a_process(run: Path) -> int:
    """The process id of one that works, and ends with 0 where that went well."""
    process = os.fork()
    if process == 0:
        try:
            work(run)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return process


def test_whatever_the_moment_power_is_lost_the_same_work_ends_well(own_disk: Disk) -> None:
    start = time.monotonic()
    assert os.waitpid(in_a_process(own_disk.folder / "undisturbed"), 0)[1] == 0
    seconds, begun = time.monotonic() - start, Counter[bool]()
    for seed in range(20):
        run = own_disk.folder / f"run-{seed}"
        process = in_a_process(run)
        time.sleep(random.Random(seed).uniform(0, seconds))
        own_disk.power_off()
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        own_disk.power_on()
        begun[(run / "distilled").exists()] += 1
        work(run)
        assert Counter(row["prompt_id"] for row in read_rows(run / "distilled")) == Counter(map(str, range(ROWS)))
        assert Artifact.existing(run / "distilled", CandidatesManifest).manifest.rows == ROWS
    assert begun[True] >= 5, "power was lost before there was anything to lose"


def test_what_others_wrote_into_a_folder_is_there_once_it_is_filled(own_disk: Disk) -> None:
    model = own_disk.folder / "model"
    model.mkdir()
    with filled(model) as folder:
        (folder / "adapter").mkdir()
        for name in ("model.safetensors", "adapter/adapter_config.json"):
            (folder / name).write_bytes(b"weights" * 1000)
    own_disk.power_off()
    own_disk.power_on()
    assert (model / "model.safetensors").read_bytes() == b"weights" * 1000
    assert (model / "adapter" / "adapter_config.json").read_bytes() == b"weights" * 1000


def test_what_is_written_is_there_after_power_is_lost(own_disk: Disk) -> None:
    run = own_disk.folder / "run"
    work(run)
    own_disk.power_off()
    own_disk.power_on()
    artifact = Artifact(run / "distilled", {"seed": 0}, CandidatesManifest)
    assert artifact.open() is True
    artifact.require()
    assert len(list(read_rows(run / "distilled"))) == ROWS
