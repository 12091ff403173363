"""One reader of data files: every format, for every task that reads files, refused in the same words."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.readers import HEAD_ROWS, Columns
from s2d_ray.tasks.reading import file_rows, load_rows
from s2d_ray.tasks.registry import load_task

Rows = list[dict[str, Any]]
ROWS: Rows = [{"question": f"What is {n} + 1?\nSay.", "answer": f"#### {n + 1}"} for n in range(30)]


def as_lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_array(path: Path, rows: Rows) -> None:
    path.write_text("\n" + json.dumps(rows, indent=1))


def as_csv(path: Path, rows: Rows) -> None:
    pacsv.write_csv(pa.Table.from_pylist(rows), path)


def as_parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def packed(write: Callable[[Path, Rows], None]) -> Callable[[Path, Rows], None]:
    def write_packed(path: Path, rows: Rows) -> None:
        write(path, rows)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_packed


def as_folder(path: Path, rows: Rows) -> None:
    (path / "more").mkdir(parents=True)
    as_lines(path / "a.jsonl", rows[:10])
    packed(as_lines)(path / "more" / "b.json.gz", rows[10:])
    (path / "README.md").write_text("About these files.")


LAYOUTS: Mapping[str, Callable[[Path, Rows], None]] = {
    "rows.jsonl": as_lines,
    "rows.ndjson": as_lines,
    "rows.json": as_array,
    "rows.csv": as_csv,
    "rows.parquet": as_parquet,
    "rows.jsonl.gz": packed(as_lines),
    "rows.json.gz": packed(as_array),
    "rows.csv.gz": packed(as_csv),
    "rows": as_folder,
}


@pytest.fixture(params=LAYOUTS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / request.param
    LAYOUTS[request.param](path, ROWS)
    return path


def test_every_format_gives_the_same_rows(stored: Path) -> None:
    assert list(load_rows(str(stored))) == ROWS
    found = list(file_rows(stored, Columns(["answer"])))
    assert [row["answer"] for _, row in found] == [row["answer"] for row in ROWS]
    assert {Path(place.source).is_file() for place, _ in found} == {True}


@pytest.mark.parametrize(
    "section",
    [
        {"name": "prompts", "text_column": "question", "reference_column": "answer"},
        {"name": "gsm8k", "instruction": ""},
        {"name": "biased_trivia", "opinions": {"plain": 1}},
    ],
)
def test_every_task_reads_every_format(stored: Path, section: dict[str, Any]) -> None:
    task = load_task(Named.model_validate(section | {"path": str(stored)}))
    asked = {item.prompt.text for split in ("train", "test") for item in task.items(split, 0) if item.references}
    assert asked >= {row["question"] for row in ROWS}


FILES: Mapping[str, bytes] = {
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n",
    "none.json": b"[]",
    "header.csv": b"question\n",
    "text.jsonl": b"no json\n",
    "cut.jsonl": b'{"question": "x"}\n{"question"',
    "number.jsonl": b'{"question": "x"}\n3\n',
    "texts.json": b'["x", "y"]',
    "latin.jsonl": '{"question": "café"}\n'.encode("latin-1"),
    "short.csv": b"question,b\nx,y\nz\n",
    "cut.jsonl.gz": gzip.compress(b'{"question": "x"}\n' * 1000)[:-20],
    "plain.jsonl.gz": b'{"question": "x"}\n',
    "broken.parquet": b"PAR1 no parquet",
    "notes.txt": b"x",
}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.jsonl", "no file or folder FILE"),
        ("empty.jsonl", "FILE has no rows"),
        ("blank.jsonl", "FILE has no rows"),
        ("none.json", "FILE has no rows"),
        ("header.csv", "FILE has no rows"),
        (
            "text.jsonl",
            "a bad line found, more than max_bad_lines 0; the first is FILE, line 1: no JSON: Expecting value at ",
        ),
        ("cut.jsonl", "a bad line found, more than max_bad_lines 0; the first is FILE, line 2: no JSON: "),
        (
            "number.jsonl",
            "a bad line found, more than max_bad_lines 0; the first is FILE, line 2: something else than an object",
        ),
        (
            "texts.json",
            "a bad row found, more than max_bad_lines 0; the first is FILE, row 1: something else than an object",
        ),
        ("latin.jsonl", "a bad line found, more than max_bad_lines 0; the first is FILE, line 1: not UTF-8"),
        (
            "short.csv",
            "a bad line found, more than max_bad_lines 0; the first is FILE, line 3: not as many values as the ",
        ),
        ("cut.jsonl.gz", "FILE cannot be read as json"),
        ("plain.jsonl.gz", "FILE cannot be read as json"),
        ("broken.parquet", "FILE cannot be read as parquet"),
        (
            "notes.txt",
            "FILE is no file that ends in .jsonl, .ndjson, .json, .csv, .tsv, .parquet, plain or .gz or .zst, nor",
        ),
        ("folder", "FILE mixes formats: point to files of one of them"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_same_words_by_every_task(
    name: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if name in FILES:
        path.write_bytes(FILES[name])
    elif name == "folder":
        as_folder(path, ROWS)
        as_csv(path / "c.csv", ROWS)
    for section in ({"name": "prompts", "text_column": "question"}, {"name": "gsm8k"}):
        task = load_task(Named.model_validate(section | {"path": str(path), "max_bad_lines": 0}))
        with pytest.raises(UserError) as caught:
            list(task.items("train", 0))
        assert str(caught.value).startswith(problem.replace("FILE", str(path)))
        assert "\n" not in str(caught.value)


def test_a_key_that_some_rows_leave_out_is_none_there(tmp_path: Path) -> None:
    as_lines(tmp_path / "r.jsonl", [{"a": 1}, {"b": {"c": []}}, {"a": "2001-02-03", "b": None}])
    rows = [{"a": 1, "b": None}, {"a": None, "b": {"c": []}}, {"a": "2001-02-03", "b": None}]
    assert [row for _, row in file_rows(tmp_path / "r.jsonl", Columns(["b"]))] == rows
    as_lines(tmp_path / "late.jsonl", [{"a": 1}] * HEAD_ROWS + [{"b": 2}])
    with pytest.raises(UserError, match=r"late\.jsonl has no column b; it has a"):
        next(file_rows(tmp_path / "late.jsonl", Columns(["b"])))


def test_of_a_csv_all_is_text_and_empty_is_none(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,label,note\n001,2,NA\n02,,\n")
    assert list(load_rows(str(tmp_path / "r.csv"))) == [
        {"id": "001", "label": "2", "note": "NA"},
        {"id": "02", "label": None, "note": None},
    ]
    rows = [row for _, row in file_rows(tmp_path / "r.csv", Columns(["note", "id"]))]
    assert rows == [{"note": "NA", "id": "001"}, {"note": None, "id": "02"}]


def test_what_another_column_holds_does_not_matter(tmp_path: Path) -> None:
    lines = ["id,text\n", *(f"{n},x\n" for n in range(200_000)), "no number,y\n"]
    (tmp_path / "r.csv").write_text("".join(lines))
    texts = [row["text"] for _, row in file_rows(tmp_path / "r.csv", Columns(["text"]))]
    assert (len(texts), texts[-1]) == (200_001, "y")


@pytest.mark.parametrize(
    ("name", "content"), [("r.jsonl", '{"a": "é"}\n'), ("r.json", '[{"a": "é"}]'), ("r.csv", "a\né\n")]
)
def test_a_byte_order_mark_is_no_text(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert list(load_rows(str(tmp_path / name))) == [{"a": "é"}]
