"""A row that is no prompt is refused with a reason and told of; the others go on."""

import json
from pathlib import Path
from time import process_time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.errors import UserError
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.runs.pipeline import ingest
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.corpus import write_corpus
from s2d_ray.tasks.deduplication import alike
from s2d_ray.tasks.refusals import Refused, accounted, text_of, written
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, training_prompts

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def as_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_of(task: str, path: Path, **options: Any) -> Recipe:
    section = {"name": task, "path": str(path)} | options
    return Recipe.model_validate({"name": "trial", "model": "none", "method": "direct", "task": section})


def asked(split: Split, **section: Any) -> list[str]:
    return [item.prompt.text for item in load_task(Named.model_validate(section)).items(split, 0)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no column"),
        ("", "no column"),
        (" \n", "no column"),
        (float("nan"), "no column"),
        (b"caf\xe9", "column is not UTF-8"),
        ("half \ud83d", "column has half of a character (a lone surrogate)"),
        (["x"], "column holds a list, not text"),
        ({"x": "y"}, "column holds a structure, not text"),
    ],
)
def test_what_is_no_text_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        text_of(value, "column")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("value", "text"), [("x", "x"), (b"caf\xc3\xa9", "café"), (7, "7"), (2.5, "2.5"), ("😀", "😀")]
)
def test_what_can_be_written_is_text(value: Any, text: str) -> None:
    assert text_of(value, "column") == written(value, "column") == text


BAD = [{"prompt": "What is \ud83d?"}, {"prompt": None}, {"prompt": ""}, {"prompt": ["x"]}, {"prompt": None}]


def test_refused_rows_are_counted_in_the_manifest_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_lines(tmp_path / "p.jsonl", [{"prompt": f"Case {n}?"} for n in range(50)] + BAD)
    recipe = recipe_of("prompts", path)
    made = write_corpus(recipe, load_task(recipe.task), tmp_path / "prompts").manifest
    assert made.rows_read == 55
    assert made.refused == {
        "no prompt": 3,
        "prompt has half of a character (a lone surrogate)": 1,
        "prompt holds a list, not text": 1,
    }
    assert made.first_refused == f"{path}, line 51: prompt has half of a character (a lone surrogate)"
    for _ in range(2):  # A corpus that is there already is told of too.
        ingest(resolve(recipe), RunFolders(tmp_path / "run"))
        said = capsys.readouterr().out
        assert said == (
            "5 of 55 rows refused: no prompt (3), prompt has half of a character (a lone surrogate) (1), prompt holds "
            f"a list, not text (1); the first is {made.first_refused}\n"
        )


def test_a_corpus_without_a_refused_row_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_of("prompts", as_lines(tmp_path / "p.jsonl", [{"prompt": f"Case {n}?"} for n in range(50)]))
    ingest(resolve(recipe), RunFolders(tmp_path / "run"))
    assert capsys.readouterr().out == ""


def test_a_reason_that_quotes_a_row_is_counted_by_its_kind(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Case {n}?"}]} for n in range(40)]
    rows += [{"messages": [{"role": f"secret {n}", "content": "x"}]} for n in range(3)]
    recipe = recipe_of("prompts", as_lines(tmp_path / "p.jsonl", rows), messages_column="messages")
    made = write_corpus(recipe, load_task(recipe.task), tmp_path / "prompts").manifest
    assert made.refused == {"a turn by an unknown speaker": 3}
    assert made.first_refused is not None
    assert made.first_refused.endswith("line 41: a turn by an unknown speaker: secret 0")
    with accounted() as account:
        assert len(list(training_prompts(load_task(recipe.task), 0))) == made.rows
    assert account.refused == made.refused


@pytest.mark.parametrize("value", [None, "", " ", ["x"]])
@pytest.mark.parametrize("with_test_path", [False, True])
def test_a_corpus_of_which_every_row_is_refused_is_an_error(value: Any, with_test_path: bool, tmp_path: Path) -> None:
    path = as_lines(tmp_path / "p.jsonl", [{"prompt": value}] * 30)
    test = as_lines(tmp_path / "test.jsonl", [{"prompt": f"Case {n}?"} for n in range(5)])
    with pytest.raises(UserError) as caught:
        asked("train", name="prompts", path=str(path), **({"test_path": str(test)} if with_test_path else {}))
    reason = "prompt holds a list, not text" if value == ["x"] else "no prompt"
    assert str(caught.value) == f"none of 30 rows can be used; {path}, line 1: {reason}"


def test_the_tasks_over_rows_refuse_them_too(tmp_path: Path) -> None:
    maths: list[dict[str, Any]] = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(30)]
    maths += [{"question": None, "answer": "#### 1"}, {"question": "Half \ud83d", "answer": "#### 1"}]
    trivia: list[dict[str, Any]] = [{"question": f"Who is {n}?", "answer": f"N{n}"} for n in range(30)]
    trivia += [{"question": "", "answer": "N"}, {"question": "Who?", "answer": None}, {"question": "?", "answer": {}}]
    for task, rows, bad in (("gsm8k", maths, 2), ("biased_trivia", trivia, 3)):
        recipe = recipe_of(task, as_lines(tmp_path / f"{task}.jsonl", rows))
        made = write_corpus(recipe, load_task(recipe.task), tmp_path / task).manifest
        assert (made.rows_read, sum(made.refused.values())) == (30 + bad, bad)
        assert made.rows > 10
    pq.write_table(pa.table({"question": pa.nulls(3, pa.string())}), tmp_path / "null.parquet")
    with pytest.raises(UserError, match=r"none of 3 rows can be used; .*null.parquet, row 1: no question"):
        asked("train", name="gsm8k", path=str(tmp_path / "null.parquet"))


LANDS = [f"What is the capital of land {n}?" for n in range(200)]


def test_what_is_in_the_file_for_testing_is_not_trained_on_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = as_lines(tmp_path / "train.jsonl", [{"prompt": text} for text in LANDS])
    said = [*LANDS[:10], *(f" {text.upper().replace('?', ' ?!')}" for text in LANDS[10:20])]
    test = as_lines(tmp_path / "test.jsonl", [{"prompt": text, "answer": "x"} for text in said])
    section = {"name": "prompts", "path": str(path), "test_path": str(test)}
    assert sorted(asked("train", **section)) == sorted(LANDS[20:])
    assert asked("test", **section) == said
    recipe = recipe_of("prompts", path, test_path=str(test))
    ingest(resolve(recipe), RunFolders(tmp_path / "run"))
    wanted = "20 prompts left out of training that are held out too, 10 of them but for case, spaces and punctuation\n"
    assert capsys.readouterr().out == wanted


@pytest.mark.parametrize("options", [{}, {"id_column": "id"}, {"valid_share": 0.2}])
def test_what_says_the_same_is_on_one_side_of_a_split_only(options: dict[str, Any], tmp_path: Path) -> None:
    texts = [form for text in LANDS for form in (text, text.lower(), text.replace(" ", "  "), text.rstrip("?"))]
    path = as_lines(tmp_path / "p.jsonl", [{"id": n, "prompt": text} for n, text in enumerate(texts)])
    parts = [asked(split, name="prompts", path=str(path), test_share=0.3, **options) for split in SPLITS]
    keys = [{alike(text) for text in part} for part in parts]
    assert min(len(key) for key in keys if key) > 5
    assert keys[0] and keys[2]
    assert sum(map(len, keys)) == len(set[str]().union(*keys)) == 200


def test_the_same_text_under_two_ids_is_on_one_side(tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": LANDS[n % 100]} for n in range(200)]
    path = as_lines(tmp_path / "p.jsonl", rows)
    train, test = (asked(split, name="prompts", path=str(path), id_column="id") for split in ("train", "test"))
    assert len(train) + len(test) == 200
    assert not set(train) & set(test)


def test_a_question_of_the_test_file_is_not_asked_in_training_with_another_full_stop(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(30)]
    path = as_lines(tmp_path / "train.jsonl", rows)
    test = as_lines(tmp_path / "test.jsonl", [{"question": "WHAT is 7 + 1", "answer": "#### 8"}])
    recipe = recipe_of("gsm8k", path, test_path=str(test))
    made = write_corpus(recipe, load_task(recipe.task), tmp_path / "prompts")
    assert (made.manifest.rows, made.manifest.held_out_too, made.manifest.alike) == (29, 1, 1)
    assert "What is 7 + 1?" not in {prompt.fields["bare"] for prompt in training_prompts(load_task(recipe.task), 0)}


@pytest.mark.parametrize("name", ["gsm8k", "biased_trivia", "judge"])
def test_no_task_over_rows_asks_alike_on_both_sides(name: str, tmp_path: Path) -> None:
    forms = [form for n in range(150) for form in (f"What is case {n}?", f"what is  case {n}", f"What is case {n} ?!")]
    more = {"answer": "#### 1", "response_a": "x", "response_b": "y"}
    rows = [{"question": text} | more | {"answer": f"#### {n}"} for n, text in enumerate(forms)]
    path = as_lines(tmp_path / "rows.jsonl", rows)
    task = load_task(Named(name=name, path=str(path), test_share=0.3, valid_share=0.2))
    parts = [{alike(item.cluster) for item in task.items(split, 0)} for split in SPLITS]
    assert min(map(len, parts)) > 5
    assert sum(map(len, parts)) == len(set[str]().union(*parts))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is it?", "what  is it", True),
        ("“Hello,” she said.", "Hello, she said", True),
        ("Well, yes!", "well yes", True),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("What is 5!?", "What is 5?", False),
        ("What is 5!!..", "What is 5!", True),
        ("What is it ...?", "What is it", True),
        ("Is 1.5 more?", "Is 15 more?", False),
        ("Translate: cat", "Translate: cats", False),
        ("?", "!", False),
        ("x²", "x2", False),
    ],
)
def test_what_says_the_same(one: str, other: str, same: bool) -> None:
    assert (alike(one) == alike(other)) is same


def test_a_long_row_of_dots_takes_no_time() -> None:
    began = process_time()
    assert alike("." * 50_000 + "x") == "." * 50_000 + "x"
    assert process_time() - began < 1
