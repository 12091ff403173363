"""Engine actors on a local Ray: kept full, replaced when they break, gone when the stage is over."""

import asyncio
import os
import time
from collections import Counter
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from s2d_ray.data.files import read_json, read_rows, write_table
from s2d_ray.data.records import Row
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.recipes.sections import Engine
from s2d_ray.stages.boundary import RowWork
from s2d_ray.stages.row_jobs import Pass, RowJob, Rows, process_rows
from tests.stages.runs import ids, run_here, write_corpus, write_recipe

pytestmark = pytest.mark.ray


def answers(base: Path) -> list[str]:
    """Every sample's text."""
    return [sample["text"] for row in read_rows(base / "candidates") for sample in row["samples"]]


def all_cpus_free(seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_a_call_without_an_answer_fails_its_row_alone(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 40)
    engine = {"kind": "scripted", "script": "tests.scripts:hanging_on_seven", "call_timeout": 3}
    generate = {"samples": 2, "commit_rows": 8, "max_failed_share": 0.5}
    recipe = write_recipe(tmp_path, tiny_model, corpus, engine=engine, generate=generate, method="direct")
    base = run_here(recipe, tmp_path, "generate")
    rows = {row["messages"][0]["content"]: row["error"] for row in read_rows(base / "candidates")}
    assert {error for text, error in rows.items() if "7" in text} == {"no answer within 3 s (engine.call_timeout)"}
    assert {error for text, error in rows.items() if "7" not in text} == {""}


@pytest.mark.parametrize("way", ["sleeps", "loops", "awaits"])
def test_a_method_that_blocks_fails_its_row_alone(way: str, tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 30)
    engine = {"kind": "scripted", "script": "tests.scripts:oracle", "method_timeout": 8}
    generate = {"samples": 1, "commit_rows": 8, "max_failed_share": 0.5}
    method = {"name": "tests.scripts:blocking_on_case_7", "way": way}
    recipe = write_recipe(tmp_path, tiny_model, corpus, engine=engine, generate=generate, method=method)
    base = run_here(recipe, tmp_path, "generate")
    assert ids(base / "candidates") == ids(base / "prompts")
    errors = {row["messages"][0]["content"]: row["error"] for row in read_rows(base / "candidates")}
    reason = (
        "no end within 8 s (engine.method_timeout)" if way == "awaits" else "its code held up all other rows for 8 s"
    )
    assert [error.partition(":")[0] for text, error in errors.items() if error] == [reason]
    assert [text for text, error in errors.items() if error] == [text for text in errors if "case 7?" in text]


@pytest.mark.long
def test_a_rule_that_blocks_fails_its_row_alone(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 30)
    engine = {"kind": "scripted", "script": "tests.scripts:oracle", "method_timeout": 8}
    curate = {"rules": ["tests.scripts:BlockingOnCase7"]}
    recipe = write_recipe(tmp_path, tiny_model, corpus, engine=engine, curate=curate)
    base = run_here(recipe, tmp_path, "generate", "curate")
    assert ids(base / "distilled") == ids(base / "prompts")
    [failed] = read_rows(base / "distilled" / "status=failed")
    assert failed["reason"].startswith("its code held up all other rows for 8 s")
    assert failed["messages"][0]["content"].endswith("case 7?")


@pytest.mark.parametrize("script", ["hanging_at_first", "dying_at_first"])
def test_a_broken_engine_is_replaced(script: str, tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("prompt\n" + "".join(f"mark {tmp_path / 'mark'} case {i}\n" for i in range(40)))
    engine = {"kind": "scripted", "script": f"tests.scripts:{script}", "call_timeout": 3}
    # The prompts name a folder, so their digests, which split them, are others in each run.
    task = {"name": "prompts", "path": str(corpus), "test_share": 0.5}
    recipe = write_recipe(tmp_path, tiny_model, corpus, task=task, engine=engine, method="direct")
    base = run_here(recipe, tmp_path, "generate")
    assert (tmp_path / "mark").exists(), "no engine broke"
    assert ids(base / "candidates") == ids(base / "prompts")
    assert set(answers(base)) == {"answer"}
    assert read_json(base / "candidates" / "manifest.json")["failed"] == 0


def test_an_engine_is_kept_full_while_slow_rows_hold_up_their_parts(
    tmp_path: Path, tiny_model: Path, local_ray: None
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 400)
    engine = {"kind": "scripted", "script": "tests.scripts:long_tailed", "max_sequences": 8}
    generate = {"samples": 1, "commit_rows": 4}
    recipe = write_recipe(tmp_path, tiny_model, corpus, engine=engine, generate=generate, method="direct")
    spans = [tuple(map(float, text.split())) for text in answers(run_here(recipe, tmp_path, "generate"))]
    # Until the last one begins there is always another row to work on.
    first, last = min(begin for begin, _ in spans), max(begin for begin, _ in spans)
    used = sum(min(end, last) - begin for begin, end in spans) / (8 * (last - first))
    assert 0.85 < used < 1.01, f"the engine worked on {used:.0%} of the sequences that it takes"


def test_a_stage_holds_the_cores_it_asks_for_and_none_afterwards(
    tmp_path: Path, tiny_model: Path, local_ray: None
) -> None:
    assert all_cpus_free()
    corpus = write_corpus(tmp_path / "corpus.jsonl", 12)
    engine = {"kind": "scripted", "script": "tests.scripts:cores_held", "cpus": 2}
    recipe = write_recipe(tmp_path, tiny_model, corpus, engine=engine, method="direct")
    base = run_here(recipe, tmp_path, "generate")
    assert set(answers(base)) == {"2.0"}
    assert all_cpus_free(), "training would wait for what the engines hold"


def noting(model: int, log: Path) -> RowWork:
    """Writes down which engine answers with which model, in the order in which it does."""

    async def answer(row: Row, engine: CompletionEngine) -> list[Row]:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {model}\n")
        await asyncio.sleep(0.03)
        return [row | {"model": model}]

    return RowWork(answer, lambda row, reason: [])


def test_however_many_parts_there_are_each_engine_takes_each_model_up_once(tmp_path: Path, local_ray: None) -> None:
    source, target, log = tmp_path / "source", tmp_path / "target", tmp_path / "log"
    source.mkdir()
    target.mkdir()
    write_table(source / "part-0.parquet", pa.table({"prompt_id": [str(n) for n in range(96)]}))
    rows = Rows(source, target, pa.schema([("prompt_id", pa.string()), ("model", pa.int64())]), commit_rows=8)
    job = RowJob(
        passes=[Pass(rows, tmp_path / f"model-{number}", partial(noting, number, log)) for number in range(3)],
        engine=Engine(kind="scripted", min_engines=2, max_engines=2),
        trust_remote_code=False,
        concurrent_rows=8,
        method_timeout=60,
    )
    processed = process_rows(job, "evaluate")
    answers = [line.split() for line in log.read_text().splitlines()]
    taken_up = {
        engine: [model for model, _ in groupby(model for who, model in answers if who == engine)]
        for engine, _ in answers
    }
    # An engine that starts late may find nothing left to do with the first.
    assert all(models == sorted(set(models)) for models in taken_up.values())
    assert {model for models in taken_up.values() for model in models} == {"0", "1", "2"}
    assert processed.loads == sum(map(len, taken_up.values()))
    assert Counter((row["prompt_id"], row["model"]) for row in read_rows(target)) == {
        (str(n), model): 1 for n in range(96) for model in range(3)
    }
    assert (processed.rows, processed.resumed) == (3 * 96, 0)
