"""More rows in flight than the object store holds: Ray spills them to disk, and nothing is lost."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.nodes import each_once, nodes, wait_for
from tests.stages.runs import finished, start, write_recipe

pytestmark = pytest.mark.ray
ROWS = 48
ROW_BYTES = 4 * 2**20
STORE_BYTES = 80 * 2**20
"""The least that Ray takes is 75 MiB; one part of eight rows is 32."""


def test_generating_survives_a_full_object_store(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not JSON, whose reader takes no lines of this length.
    corpus, spilled = tmp_path / "corpus.parquet", tmp_path / "spilled"
    prompts = [f"{'x' * ROW_BYTES}. What is the number of case {n}?" for n in range(ROWS)]
    pq.write_table(pa.table({"prompt": prompts}), corpus)
    recipe = write_recipe(tmp_path, tiny_model, corpus, "slow_oracle", generate={"samples": 1, "commit_rows": 8})
    spilled.mkdir()
    monkeypatch.setenv("RAY_object_spilling_directory", str(spilled))
    with nodes(1, STORE_BYTES) as cluster:
        process = start(["run", str(recipe), "--until", "curate"], tmp_path, RAY_ADDRESS=cluster.address)
        # Deleted again once it is no longer needed.
        wait_for(lambda: process.poll() is not None or any(path.is_file() for path in spilled.rglob("*")))
        seen = [path for path in spilled.rglob("*") if path.is_file()]
        finished(process)
    assert seen, "nothing was spilled: this tests nothing"
    each_once(tmp_path)
