"""What a model thought is in the report for people to unfold, apart from what it said."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.records import ANSWERS
from s2d_ray.report.report import write_report
from tests.report.toy_run import ARMS, Toy, recipe, write_run

THOUGHT = {"base": "Hm & <b>hm</b>.", "teacher": "Let me see."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The report of a run whose base and teacher thought before each call."""
    task = Toy(subsets=("all",))
    run = write_run(tmp_path / "toy", task, ARMS[:3])
    file = run.evaluation / "part-0.parquet"
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        for sample in row["samples"]:
            for step in sample["steps"]:
                step["thought"] = THOUGHT.get(row["arm"], "")
    pq.write_table(pa.Table.from_pylist(rows, schema=ANSWERS), file)
    write_report(recipe(), task, run)
    return run.report


def test_a_thought_stands_with_the_call_that_it_came_before(folder: Path) -> None:
    examples: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())["examples"]
    assert examples
    for example in examples:
        answers = example["answers"]
        assert (answers["base"]["thought"], answers["base"]["steps"]) == (THOUGHT["base"], [])
        assert answers["teacher"]["thought"] == ""
        assert [step["thought"] for step in answers["teacher"]["steps"]] == [THOUGHT["teacher"]] * 2
        assert answers["student"]["thought"] == ""


def test_thoughts_are_folded_on_the_page(folder: Path) -> None:
    count = len(json.loads((folder / "report.json").read_text())["examples"])
    page = (folder / "report.html").read_text()
    folded = '<details class="calls"><summary>thought</summary><div class="text under">{}</div></details>'
    assert page.count(folded.format("Hm &amp; &lt;b&gt;hm&lt;/b&gt;.")) == count
    assert page.count(folded.format("Let me see.")) == 2 * count
    assert page.count("<summary>thought</summary>") == 3 * count
    assert "Let me see." not in (folder / "report.md").read_text()
