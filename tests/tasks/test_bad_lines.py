"""A line that is no row costs that line: refused with its place, the others go on, up to a number of them."""

import codecs
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.errors import UserError
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.corpus import write_corpus
from s2d_ray.tasks.reading import MAX_BAD_LINES, file_rows
from s2d_ray.tasks.refusals import BadRows, Place, accounted
from s2d_ray.tasks.registry import load_task

NOT_JSON, NOT_UTF8 = "no JSON", "not UTF-8"
NO_OBJECT, NO_PROMPT, HALF = (
    "something else than an object",
    "no prompt",
    "prompt has half of a character (a lone surrogate)",
)
BAD_LINES: Mapping[str, tuple[bytes, str]] = {
    "cut": (b'{"prompt": "What', NOT_JSON),
    "cut in a character": ('{"prompt": "é'.encode()[:-1], NOT_UTF8),
    "words": (b"no json", NOT_JSON),
    "html": (b"<html><body>502</body></html>", NOT_JSON),
    "NUL bytes": (b"\0" * 40, NOT_JSON),
    "NUL in a text": (b'{"prompt": "a\0b"}', NOT_JSON),
    "tab in a text": (b'{"prompt": "a\tb"}', NOT_JSON),
    "Latin-1": ('{"prompt": "café"}'.encode("latin-1"), NOT_UTF8),
    "a surrogate in bytes": (b'{"prompt": "\xed\xa0\xbd"}', NOT_UTF8),
    "UTF-16": ('{"prompt": "x"}'.encode("utf-16-le").replace(b"\n", b""), NOT_JSON),
    "a lone surrogate": (b'{"prompt": "\\ud83d"}', HALF),
    "a surrogate in the wrong order": (b'{"prompt": "\\ude00\\ud83d"}', HALF),
    "a bad escape": (b'{"prompt": "\\x"}', NOT_JSON),
    "half an escape": (b'{"prompt": "\\u12"}', NOT_JSON),
    "a huge integer": (b'{"prompt": ' + b"9" * 5000 + b"}", NOT_JSON),
    "NaN": (b'{"prompt": NaN}', NO_PROMPT),
    "null": (b'{"prompt": null}', NO_PROMPT),
    "an empty text": (b'{"prompt": ""}', NO_PROMPT),
    "white space": (b'{"prompt": " \\n "}', NO_PROMPT),
    "no key": (b"{}", NO_PROMPT),
    "another key": (b'{"question": "What?"}', NO_PROMPT),
    "a list": (b'{"prompt": ["x"]}', "prompt holds a list, not text"),
    "a structure": (b'{"prompt": {"text": "x"}}', "prompt holds a structure, not text"),
    "an array": (b'[{"prompt": "x"}]', NO_OBJECT),
    "an empty array": (b"[]", NO_OBJECT),
    "half an array": (b"[1, 2", NOT_JSON),
    "a number": (b"3", NO_OBJECT),
    "a text": (b'"x"', NO_OBJECT),
    "nothing": (b"null", NO_OBJECT),
    "a constant": (b"true", NO_OBJECT),
    "two objects": (b'{"prompt": "x"}{"prompt": "y"}', NOT_JSON),
    "two objects apart": (b'{"prompt": "x"} {"prompt": "y"}', NOT_JSON),
    "a comma behind": (b'{"prompt": "x"},', NOT_JSON),
    "a comma within": (b'{"prompt": "x",}', NOT_JSON),
    "single quotes": (b"{'prompt': 'x'}", NOT_JSON),
    "no quotes": (b'{prompt: "x"}', NOT_JSON),
    "a comment": (b"// a comment", NOT_JSON),
    "a brace": (b"{", NOT_JSON),
    "Python": (b'{"prompt": None}', NOT_JSON),
    "nested too deep": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep"),
    "nested too deep beside": (b'{"x": ' + b'{"x": ' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested too deep"),
    "a space that is none": ("\u00a0{}".encode(), NOT_JSON),
}
GOOD_LINES: Mapping[str, tuple[bytes, str]] = {
    "plain": (b'{"prompt": "What is NUMBER?"}', "What is NUMBER?"),
    "spaces": (b' \t{ "prompt" : "What is NUMBER?" } ', "What is NUMBER?"),
    "a carriage return": (b'{"prompt": "What is NUMBER?"}\r', "What is NUMBER?"),
    "a byte-order mark": (codecs.BOM_UTF8 + b'{"prompt": "What is NUMBER?"}', "What is NUMBER?"),
    "a key twice": (b'{"prompt": "x", "prompt": "What is NUMBER?"}', "What is NUMBER?"),
    "a number": (b'{"prompt": 1000NUMBER}', "1000NUMBER"),
    "an escape": (b'{"prompt": "\\u00e9 \\ud83d\\ude00 NUMBER"}', "é 😀 NUMBER"),
    "a NUL": (b'{"prompt": "a\\u0000 NUMBER"}', "a\0 NUMBER"),
    "line ends of Unicode": ('{"prompt": "a\u2028b\x85 NUMBER"}'.encode(), "a\u2028b\x85 NUMBER"),
    "anything beside": (b'{"prompt": "Is it NUMBER?", "x": [NaN, 1e999, "\\ud83d", {}]}', "Is it NUMBER?"),
}


def recipe_of(path: Path, **options: Any) -> Recipe:
    section = {"name": "prompts", "path": str(path), "test_path": str(path.with_name("test.jsonl"))} | options
    path.with_name("test.jsonl").write_text('{"prompt": "Held out?"}\n')
    return Recipe.model_validate({"name": "trial", "model": "none", "method": "direct", "task": section})


def corpus_of(path: Path, **options: Any) -> tuple[int, dict[str, int], str | None]:
    """Prompts, refused rows, and the first of them."""
    recipe = recipe_of(path, **options)
    made = write_corpus(recipe, load_task(recipe.task), path.parent / "prompts").manifest
    return made.rows, made.refused, made.first_refused


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_costs_itself_and_says_where_it_is(kind: str, tmp_path: Path) -> None:
    line, reason = BAD_LINES[kind]
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "What is 1?"}\n\n' + line + b'\n{"prompt": "What is 2?"}\r\n')
    rows, refused, first = corpus_of(path)
    assert (rows, refused) == (2, {reason: 1})
    assert first is not None and first.startswith(f"{path}, line 3: {reason}")


@pytest.mark.parametrize("kind", GOOD_LINES)
def test_a_line_that_only_looks_odd_is_a_row(kind: str, tmp_path: Path) -> None:
    line, text = GOOD_LINES[kind]
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "x"}\n' + line.replace(b"NUMBER", b"7") + b"\n")
    assert [str(row["prompt"]) for _, row in file_rows(path)] == ["x", text.replace("NUMBER", "7")]
    assert corpus_of(path)[:2] == (2, {})


def test_a_first_line_that_is_an_array_is_a_bad_line_of_many(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\n[1, 2]\n{"prompt": "x"}\n')
    assert corpus_of(path) == (1, {NO_OBJECT: 1}, f"{path}, line 2: {NO_OBJECT}")


@pytest.mark.parametrize("limit", [0, 3, None])
def test_more_bad_lines_than_allowed_are_a_mistake_about_the_file(limit: int | None, tmp_path: Path) -> None:
    path, most = tmp_path / "p.jsonl", MAX_BAD_LINES if limit is None else limit
    options = {} if limit is None else {"max_bad_lines": limit}
    good = [f'{{"prompt": "What is {n}?"}}\n' for n in range(300)]
    path.write_text("".join([*good, *["<p>\n"] * most]))
    assert corpus_of(path, **options)[:2] == (300, {NOT_JSON: most} if most else {})
    path.write_text("".join([*good, *["<p>\n"] * (most + 1)]))
    with pytest.raises(UserError) as caught:
        corpus_of(path, **options)
    found = f"{most + 1} bad lines" if most else "a bad line"
    said = f"{found} found, more than max_bad_lines {most}; the first is {path}, line 301: no JSON: "
    assert str(caught.value).startswith(said)


def test_how_many_bad_lines_are_allowed_makes_no_other_corpus(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x"}\n')
    first = recipe_of(path)
    made = write_corpus(first, load_task(first.task), tmp_path / "prompts")
    other = recipe_of(path, max_bad_lines=7)
    assert write_corpus(other, load_task(other.task), tmp_path / "prompts").fingerprint == made.fingerprint


def test_a_bad_row_of_a_csv_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [b"id,prompt", b'1,"two\nlines"', b"2", b"3,x,y", b'4,"a" b', b"5,caf\xe9", b"6,a\0b", b"", b'7,"""c"""']
    path.write_bytes(b"\n".join(rows) + b"\n")
    with accounted() as account:
        bad = BadRows(9)
        found = [(place.number, row["prompt"]) for place, row in file_rows(path, bad=bad)]
    assert found == [(2, "two\nlines"), (8, "a\0b"), (10, '"c"')]
    assert account.refused == {"not as many values as the header": 2, "no row": 1, NOT_UTF8: 1}
    assert (bad.number, bad.first) == (4, f"{path}, line 4: not as many values as the header: 1, and the header 2")


def test_a_bad_row_of_a_table_costs_itself(tmp_path: Path) -> None:
    offsets, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")
    column = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(pa.table({"prompt": column}), tmp_path / "p.parquet")
    bad = BadRows(1)
    assert [row["prompt"] for _, row in file_rows(tmp_path / "p.parquet", bad=bad)] == ["a", "c"]
    assert bad.first == f"{tmp_path / 'p.parquet'}, row 2: {NOT_UTF8}"


def test_names_of_columns_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("prömpt\nx\n".encode("latin-1"))
    with pytest.raises(UserError, match="has no column prompt; it has") as caught:
        corpus_of(tmp_path / "p.csv")
    assert str(caught.value).encode()


def fuzzed(random: Random, lines: int) -> tuple[bytes, list[str], dict[int, str]]:
    """A file of odd lines: its bytes, what its good lines say, and the reason at each bad line's number."""
    content, texts, reasons = b'{"prompt": "What is 0?"}\n', ["What is 0?"], dict[int, str]()
    number, odd = 1, [*BAD_LINES, "torn", "blank"]
    while number < lines:
        number += 1
        if random.random() < 0.6:
            line, text = random.choice([*GOOD_LINES.values()])
            texts.append(text.replace("NUMBER", str(number)))
            line = line.replace(b"NUMBER", str(number).encode())
        elif (kind := random.choice(odd)) == "blank":
            line = random.choice([b"", b" ", b"\t"])
        elif kind == "torn":
            whole = f'{{"prompt": "Torn {number} é😀"}}'.encode()
            line = whole[: random.randrange(1, len(whole))]
            reasons[number] = ""  # One of two.
        else:
            line, reasons[number] = BAD_LINES[kind]
        content += line + (b"\n" if line.endswith(b"\r") else random.choice([b"\n", b"\r\n"]))
    return content, texts, reasons


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_of_a_thousand_odd_lines_each_is_a_row_or_a_refusal_at_its_line(seed: int, tmp_path: Path) -> None:
    content, texts, reasons = fuzzed(Random(seed), 1000)
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    refused = dict[int, str]()

    class Noted(BadRows):
        def refuse(self, place: Place, reason: str) -> None:
            refused[place.number] = reason
            super().refuse(place, reason)

    rows, refused_rows = list(file_rows(path, bad=Noted(1000))), {NO_PROMPT, HALF}
    unusable = {number for number, reason in reasons.items() if reason in refused_rows or " holds a " in reason}
    assert len(rows) == len(texts) + len(unusable)
    assert refused.keys() == reasons.keys() - unusable
    assert all(reason.startswith(reasons[number]) for number, reason in refused.items())
    assert {place.number for place, _ in rows} >= unusable
    made, counted, first = corpus_of(path, max_bad_lines=1000)
    assert (made, sum(counted.values())) == (len(set(texts)), len(reasons))
    assert first is not None and first.startswith(f"{path}, line {min(reasons)}: ")
    task = load_task(Named.model_validate(recipe_of(path, max_bad_lines=1000).task.model_dump()))
    assert {item.prompt.text for item in task.items("train", 0)} == set(texts)


@pytest.mark.long
def test_a_line_of_50_megabytes_is_a_line(tmp_path: Path) -> None:
    path, long = tmp_path / "p.jsonl", b"word " * 10_000_000
    path.write_bytes(b'{"prompt": "' + long + b'"}\n' + long + b'\n{"prompt": "short"}\n')
    assert corpus_of(path) == (2, {NOT_JSON: 1}, f"{path}, line 2: no JSON: Expecting value at character 1")
