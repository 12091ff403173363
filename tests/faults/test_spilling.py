"""A corpus larger than the object store: no prompt passes through the store, so it never fills and spills."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.nodes import each_once, nodes
from tests.stages.runs import finished, start, write_recipe

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROWS = 48
ROW_BYTES = 4 * 2**20
STORE_BYTES = 80 * 2**20
"""The least that Ray takes is 75 MiB; one part of eight rows is 32."""


def test_a_corpus_larger_than_the_object_store_does_not_fill_it(
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
        seen = set[Path]()
        while process.poll() is None:
            seen |= {path for path in spilled.rglob("*") if path.is_file()}
            time.sleep(0.2)
        finished(process)
    assert not seen, "prompts went through the object store"
    each_once(tmp_path)
