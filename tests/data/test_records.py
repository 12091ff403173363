"""Rows come back from Parquet as they went in, and a row's identity is what it says."""

from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.records import (
    ANSWERS,
    CANDIDATES,
    DECISIONS,
    LABELLED,
    PROMPTS,
    Candidates,
    LabelledPrompt,
    Prompt,
    Row,
    Sample,
    Step,
    assistant,
    candidates_from_row,
    candidates_to_row,
    content_id,
    labelled_from_row,
    labelled_to_row,
    prompt_from_row,
    prompt_to_row,
    user,
)

PLAIN = Prompt("p1", [user("Where is Bogotá?")], {})
LONG = Prompt("p2", [user("Hi"), assistant("Hello"), user("Línea 1\n行 2 🙂")], {"kind": "capital", "empty": ""})
STEPS = [Step("rewrite", "Where?", "stop", 40, 32, 3, 0.5), Step("respond", "There", "length", 5, 0, 64, 0.25)]
SAMPLES = [Sample("There", "", "", STEPS), Sample("", "swapped", "the rewrite is empty", STEPS[:1])]


def stored(tmp_path: Path, rows: list[Row], schema: pa.Schema) -> list[Row]:
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    table = pq.read_table(path)
    assert table.schema.names == schema.names
    back: list[Row] = table.to_pylist()
    return back


def test_prompts_come_back(tmp_path: Path) -> None:
    rows = stored(tmp_path, [prompt_to_row(p) for p in (PLAIN, LONG)], PROMPTS)
    assert [prompt_from_row(row) for row in rows] == [PLAIN, LONG]


def test_labelled_prompts_come_back(tmp_path: Path) -> None:
    items = [
        LabelledPrompt(PLAIN, ["Colombia", "CO"], "plain", "country", "bogota"),
        LabelledPrompt(LONG, [], "biased"),
    ]
    rows = stored(tmp_path, [labelled_to_row(item) for item in items], LABELLED)
    assert [labelled_from_row(row) for row in rows] == items


def test_a_prompt_without_a_cluster_is_its_own_and_so_is_one_of_before_there_were_any() -> None:
    row = labelled_to_row(LabelledPrompt(LONG, [], "biased"))
    assert labelled_from_row(row).unit == "p2"
    del row["cluster"]
    assert labelled_from_row(row).unit == "p2"


def test_steps_of_a_run_before_log_probabilities_were_kept_are_read() -> None:
    row = candidates_to_row(Candidates(LONG, SAMPLES))
    for sample in row["samples"]:
        for step in sample["steps"]:
            del step["mean_logprob"]
    assert candidates_from_row(row) == Candidates(LONG, SAMPLES)


def test_candidates_come_back(tmp_path: Path) -> None:
    given = [Candidates(LONG, SAMPLES), Candidates(PLAIN, [], "the prompt is empty")]
    rows = stored(tmp_path, [candidates_to_row(c) for c in given], CANDIDATES)
    assert [candidates_from_row(row) for row in rows] == given


def test_a_step_has_a_column_for_everything_it_records() -> None:
    [step] = [f.type for f in CANDIDATES.field("samples").type.value_type if f.name == "steps"]
    assert {f.name for f in step.value_type} == {f.name for f in fields(Step)}


def test_only_the_labelled_form_has_references() -> None:
    assert "references" not in {*PROMPTS.names, *CANDIDATES.names, *DECISIONS.names}
    assert "references" in LABELLED.names
    assert "references" in ANSWERS.names
    assert "references" not in prompt_to_row(LONG) | candidates_to_row(Candidates(LONG, SAMPLES))


def test_the_text_of_a_prompt_is_what_the_person_said_last() -> None:
    assert LONG.text == "Línea 1\n行 2 🙂"


def test_tokens_are_counted_over_all_steps() -> None:
    assert [sample.tokens for sample in SAMPLES] == [67, 3]


def test_an_id_is_the_same_every_time_and_everywhere() -> None:
    # Written down: another value would orphan every stored row and change every seed.
    assert content_id("Where is Bogotá?") == "6e9b63d42140f5d47ffc"
    assert content_id("0", "p1", "", "2") == content_id("0", "p1", "", "2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a",), ("b",)),
        (("a", "b"), ("b", "a")),
        (("ab", "c"), ("a", "bc")),
        (("ab",), ("a", "b")),
        (("a", ""), ("a",)),
        (("a",), ("a ",)),
        (("é",), ("e",)),
    ],
)
def test_ids_differ_where_any_part_differs(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert content_id(*one) != content_id(*other)


def test_ids_do_not_collide_and_are_fit_for_names() -> None:
    ids = {content_id(str(number)) for number in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(i) == 20 and set(i) <= set("0123456789abcdef") for i in ids)
