"""Corpora as people have them: read, or refused in one line, and never half read without a word."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.readers import Columns
from s2d_ray.tasks.reading import file_rows, load_rows
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Task

Rows = Sequence[dict[str, Any]]
PROMPTS: Rows = [{"prompt": f"I think it is {n % 3}. What is the number of case {n}?"} for n in range(20)]
TEXTS = sorted(row["prompt"] for row in PROMPTS)


def lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def packed(path: Path, content: bytes, codec: str) -> None:
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write(content)


def tabbed(rows: Rows) -> bytes:
    return ("prompt\tanswer\n" + "".join(f"{row['prompt']}\t1\n" for row in rows)).encode()


def a_gzip(path: Path) -> Path:
    packed(path / "p.jsonl.gz", lines(PROMPTS), "gzip")
    return path / "p.jsonl.gz"


def a_zstd(path: Path) -> Path:
    packed(path / "p.jsonl.zst", lines(PROMPTS), "zstd")
    return path / "p.jsonl.zst"


def several_zstd_frames(path: Path) -> Path:
    for name, rows in (("a", PROMPTS[:7]), ("b", PROMPTS[7:])):
        packed(path / name, lines(rows), "zstd")
    (path / "p.jsonl.zst").write_bytes((path / "a").read_bytes() + (path / "b").read_bytes())
    return path / "p.jsonl.zst"


def an_array(path: Path) -> Path:
    (path / "p.json").write_text(json.dumps(PROMPTS, indent=1))
    return path / "p.json"


def tabs(path: Path) -> Path:
    (path / "p.tsv").write_bytes(tabbed(PROMPTS))
    return path / "p.tsv"


def packed_tabs(path: Path) -> Path:
    packed(path / "p.tsv.zst", tabbed(PROMPTS), "zstd")
    return path / "p.tsv.zst"


def an_empty_shard(path: Path) -> Path:
    (path / "a.jsonl").write_text("")
    (path / "b.jsonl").write_bytes(lines(PROMPTS))
    return path


def an_empty_table(path: Path) -> Path:
    pq.write_table(pa.table({}), path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(PROMPTS), path / "b.parquet")
    return path


def an_empty_csv(path: Path) -> Path:
    (path / "a.csv").write_text("")
    (path / "b.csv").write_text("prompt\n" + "".join(f"{text}\n" for text in TEXTS))
    return path


def mixed_and_unused(path: Path) -> Path:
    (path / "p.jsonl").write_bytes(lines([row | {"meta": str(n) if n % 2 else n} for n, row in enumerate(PROMPTS)]))
    return path / "p.jsonl"


def binary(path: Path) -> Path:
    pq.write_table(pa.table({"prompt": pa.array([text.encode() for text in TEXTS], pa.binary())}), path / "p.parquet")
    return path / "p.parquet"


def a_clone(path: Path) -> Path:
    (path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(PROMPTS), path / "data" / "train-00000-of-00001.parquet")
    (path / "README.md").write_text("---\nlicense: mit\n---\n")
    (path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (path / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    return path


def with_checkpoints(path: Path) -> Path:
    (path / "p.jsonl").write_bytes(lines(PROMPTS))
    for hidden in (".ipynb_checkpoints/p-checkpoint.jsonl", "_delta_log/0.json", ".p.jsonl"):
        (path / hidden).parent.mkdir(exist_ok=True)
        (path / hidden).write_bytes(lines([{"prompt": "OLD"}]))
    return path


def a_folder_named_as_a_file(path: Path) -> Path:
    (path / "part.parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(PROMPTS), path / "part.parquet" / "0.parquet")
    return path


MADE: Sequence[Callable[[Path], Path]] = [
    a_gzip,
    a_zstd,
    several_zstd_frames,
    an_array,
    tabs,
    packed_tabs,
    an_empty_shard,
    an_empty_table,
    an_empty_csv,
    mixed_and_unused,
    binary,
    a_clone,
    with_checkpoints,
    a_folder_named_as_a_file,
]


def prompts(path: Path, **options: Any) -> Task:
    return load_task(Named.model_validate({"name": "prompts", "path": str(path)} | options))


def asked(task: Task) -> list[str]:
    return sorted(item.prompt.text for split in ("train", "test") for item in task.items(split, 0))


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_every_prompt_is_read(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert asked(prompts(make(tmp_path), test_share=0.2)) == TEXTS


@pytest.mark.parametrize("make", [a_zstd, tabs, an_empty_shard, with_checkpoints], ids=lambda make: make.__name__)
def test_the_tasks_over_rows_read_them_too(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert sorted(row["prompt"] for row in load_rows(str(make(tmp_path)))) == TEXTS


@pytest.mark.parametrize("size", [900_000, 1_100_000, 1_200_000, 1_400_000, 5_000_000])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_a_row_of_any_length_empties_nothing(size: int, suffix: str, tmp_path: Path) -> None:
    path, rows = tmp_path / f"p.{suffix}", [{"prompt": "long " * (size // 5)}, *PROMPTS]
    if suffix == "jsonl":
        path.write_bytes(lines(rows))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",")
            writer.writerows([["prompt"], *([row["prompt"]] for row in rows)])
    assert [row["prompt"] for _, row in file_rows(path, Columns(["prompt"]))] == [row["prompt"] for row in rows]


def test_the_rows_of_a_csv_are_all_read_each_time(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}", "answer": str(n)} for n in range(50_000)]
    (tmp_path / "p.csv").write_text("prompt,answer\n" + "".join(f"{r['prompt']},{r['answer']}\n" for r in rows))
    for _ in range(3):
        assert [row for _, row in file_rows(tmp_path / "p.csv", Columns(["prompt", "answer"]))] == rows


def test_a_place_is_the_line_in_which_a_row_begins(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('prompt,n\n"a\nb",1\n\nc,2\n')
    (tmp_path / "p.jsonl").write_text('\n{"prompt": "a"}\n\n{"prompt": "c"}\n')
    (tmp_path / "p.json").write_text('[\n{"prompt": "a"},\n{"prompt": "c"}]')
    pq.write_table(pa.table({"prompt": ["a", "c"]}), tmp_path / "p.parquet")
    wanted = {"p.csv": ["line 2", "line 5"], "p.jsonl": ["line 2", "line 4"], "p.json": ["row 1", "row 2"]}
    for name, places in (wanted | {"p.parquet": ["row 1", "row 2"]}).items():
        file = tmp_path / name
        assert [str(place) for place, _ in file_rows(file)] == [f"{file}, {place}" for place in places]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_column_that_is_missing_in_a_later_file_is_named_with_the_file(suffix: str, tmp_path: Path) -> None:
    for name, column in (("a", "prompt"), ("b", "question")):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            pq.write_table(pa.table({column: TEXTS}), path)
        elif suffix == "csv":
            path.write_text(f"{column}\n" + "".join(f"{text}\n" for text in TEXTS))
        else:
            path.write_bytes(lines([{column: text} for text in TEXTS]))
    with pytest.raises(UserError) as caught:
        asked(prompts(tmp_path))
    assert str(caught.value) == f"{tmp_path / f'b.{suffix}'} has no column prompt; it has question"


REFUSED: Mapping[str, tuple[bytes, str]] = {
    "quotes.csv": (b'prompt\n"a\nb" c\nd\n', "cannot be read as csv: line 2 begins a row that is none: "),
    "stray.csv": (
        b'id,prompt\n1,"a\n2,b\n3,c"\n4,d\n5,"a\n6,b",c\n',
        "cannot be read as csv: line 6 begins a row that is none: not as many values as the header: 3",
    ),
    "open.tsv": (b'prompt\tanswer\n"a\tb\nc\td\n', "cannot be read as csv: "),
    "deep.json": (b'[{"prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]", "cannot be read as json: "),
    "cut.json": (
        b'[{"prompt": "a"},\n\n{"prompt": "b"}',
        "cannot be read as json: Expecting ',' delimiter: line 3 column 1",
    ),
    "short.jsonl.zst": (b"\x28\xb5\x2f\xfd\x04", "cannot be read as json: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(name: str, tmp_path: Path) -> None:
    content, problem = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        asked(prompts(tmp_path / name))
    assert str(caught.value).startswith(f"{tmp_path / name} {problem}")
    assert "\n" not in str(caught.value)


def test_a_local_file_needs_no_cache_of_the_hub(tmp_path: Path) -> None:
    path = a_gzip(tmp_path)
    code = (
        "import sys; from s2d_ray.recipes.strict import Named; from s2d_ray.tasks.registry import load_task\n"
        f"task = load_task(Named(name='prompts', path={str(path)!r}, test_share=0.2))\n"
        "print(sum(1 for split in ('train', 'test') for _ in task.items(split, 0)), 'datasets' in sys.modules)"
    )
    # Nothing can be written there, by whomever.
    environment = os.environ | {"HF_HOME": "/dev/null/none", "HOME": "/dev/null/none", "XDG_CACHE_HOME": "/dev/null/x"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("20 False\n", 0), done.stderr


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """`somebody/prompts` of two configurations, as a clone of it has them, and what was asked of the hub."""
    import datasets

    folder, load, seen = tmp_path / "clone", datasets.load_dataset, []
    for config in ("small", "large"):
        (folder / config).mkdir(parents=True)
        for split, rows in (("train", PROMPTS[:14]), ("held", PROMPTS[10:])):
            (folder / config / f"{split}.jsonl").write_bytes(lines([row | {"from": config} for row in rows]))
    files = "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - {{split: {split}, path: {config}/{split}.jsonl}}\n" for split in ("train", "held"))
        for config in ("small", "large")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")

    def from_the_clone(name: str, config: str | None, split: str, revision: str | None) -> Any:
        seen.append((name, config, split, revision))
        return load(str(folder), config, split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", from_the_clone)
    return seen


@pytest.mark.slow
def test_prompts_come_from_the_hub_by_name_with_configuration_split_and_revision(
    on_the_hub: list[tuple[Any, ...]],
) -> None:
    options = {"config": "large", "revision": "v2", "test_split": "held"}
    task = load_task(Named.model_validate({"name": "prompts", "path": "somebody/prompts"} | options))
    test = [item.prompt.text for item in task.items("test", 0)]
    assert test == [row["prompt"] for row in PROMPTS[10:]]
    assert [item.prompt.text for item in task.items("train", 0)] == [row["prompt"] for row in PROMPTS[:10]]
    assert {("somebody/prompts", "large", split, "v2") for split in ("train", "held")} == set(on_the_hub)
    assert task.source == "somebody/prompts; licence: as given by the owner of the file"
    task = load_task(
        Named.model_validate({"name": "prompts", "path": "somebody/prompts", "text_column": "t"} | options)
    )
    with pytest.raises(UserError, match="somebody/prompts has no column t; it has prompt, from"):
        list(task.items("train", 0))


def test_a_recipe_that_says_nothing_of_the_hub_is_known_again(tmp_path: Path) -> None:
    plain = prompts(tmp_path / "p.jsonl").model_dump(mode="json")
    assert not plain.keys() & {"config", "revision", "split", "test_split", "messages_column", "group_column"}
    assert plain["path"] == str(tmp_path / "p.jsonl")
    said = load_task(Named.model_validate({"name": "prompts", "path": "./a/", "split": "all"})).model_dump(mode="json")
    assert (said["path"], said["split"]) == ("a", "all")
