"""Prompts of one's own: every layout that is read, and every file that is refused with its reason."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.prompt_file import PromptFile
from s2d_ray.tasks.refusals import accounted
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, training_prompts

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"key": "a", "prompt": "Say, one.", "answer": "1"},
    {"key": "b", "prompt": "Say\n“two”", "answer": "two 2"},
    {"key": "c", "prompt": "Diga três", "answer": "3.50"},
]
SPLITS: tuple[Split, ...] = ("train", "test")
ANY = Prompt("id", [user("?")])


def as_parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def as_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def as_csv(path: Path, rows: Rows) -> None:
    def quoted(value: object) -> str:
        return "" if value is None else '"' + str(value).replace('"', '""') + '"'

    lines = [rows[0].keys(), *([quoted(row[key]) for key in rows[0]] for row in rows)]
    path.write_text("".join(",".join(line) + "\n" for line in lines))


LAYOUTS: Mapping[str, Callable[[Path, Rows], None]] = {
    "prompts.parquet": as_parquet,
    "prompts.jsonl": as_jsonl,
    "prompts.ndjson": as_jsonl,
    "prompts.csv": as_csv,
}


@pytest.fixture(params=LAYOUTS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Rows], Path]:
    """Rows → a file with them, in each layout."""

    def store(rows: Rows) -> Path:
        path = tmp_path / str(request.param)
        LAYOUTS[request.param](path, rows)
        return path

    return store


def task(path: Path, **options: object) -> PromptFile:
    return PromptFile.model_validate({"path": path} | options)


def every(made: PromptFile) -> list[LabelledPrompt]:
    """All that are read, in order of the text. Without a file for testing nothing is held out: of a few rows
    a share is often none, which is refused."""
    whole = made if made.test_path else made.model_copy(update={"test_path": made.path})
    found = [*whole.items("test", 0), *(made.items("train", 0) if made.test_path else ())]
    return sorted(found, key=lambda item: item.prompt.text)


def refusal(made: PromptFile) -> str:
    with pytest.raises(UserError) as caught:
        every(made)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_ids_and_references_are_taken_from_their_columns(stored: Callable[[Rows], Path]) -> None:
    found = every(task(stored(ROWS), id_column="key", reference_column="answer"))
    wanted = sorted(ROWS, key=lambda row: str(row["prompt"]))
    assert [(i.prompt.prompt_id, i.prompt.text, i.references, i.subset) for i in found] == [
        (row["key"], row["prompt"], [row["answer"]], "all") for row in wanted
    ]


def test_without_an_id_column_the_id_is_that_of_the_text(stored: Callable[[Rows], Path]) -> None:
    found = every(task(stored(ROWS)))
    assert [i.prompt.prompt_id for i in found] == [content_id(i.prompt.text) for i in found]
    assert [i.references for i in found] == [[], [], []]


def test_repeated_prompts_are_merged_where_ids_are_hashes(stored: Callable[[Rows], Path]) -> None:
    assert len(every(task(stored([*ROWS, ROWS[0] | {"key": "d"}])))) == 3


def test_repeated_ids_are_refused(stored: Callable[[Rows], Path]) -> None:
    path = stored([*ROWS, {"key": "b", "prompt": "Another", "answer": ""}])
    message = refusal(task(path, id_column="key"))
    assert message.startswith(f"{path}, ")
    assert "key b occurs more than once; make ids unique" in message


def test_the_text_may_be_in_another_column(stored: Callable[[Rows], Path]) -> None:
    assert [i.prompt.text for i in every(task(stored(ROWS), text_column="answer"))] == ["1", "3.50", "two 2"]


@pytest.mark.parametrize("option", ["text_column", "id_column", "reference_column"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(stored: Callable[[Rows], Path], option: str) -> None:
    path = stored(ROWS)
    assert f"{path} has no column question; it has key, prompt, answer" in refusal(task(path, **{option: "question"}))


def test_rows_without_a_text_are_refused_and_the_others_read(stored: Callable[[Rows], Path]) -> None:
    path = stored([{"key": "a", "prompt": None}, {"key": "b", "prompt": " "}, {"key": "c", "prompt": "x"}])
    with accounted() as account:
        assert [item.prompt.prompt_id for item in every(task(path, id_column="key"))] == ["c"]
    assert account.refused == {"no prompt": 2}
    assert account.rows == 3


@pytest.mark.parametrize("layout", ["prompts.parquet", "prompts.jsonl"])
def test_a_row_without_its_id_is_refused(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path / layout, [{"key": 1, "prompt": "x"}, {"key": None, "prompt": "y"}])
    with accounted() as account:
        assert [item.prompt.text for item in every(task(tmp_path / layout, id_column="key"))] == ["x"]
    assert account.first_refused.startswith(f"{tmp_path / layout}, ")
    assert account.first_refused.endswith(" 2: no key")


def test_a_row_of_the_held_out_file_without_its_id_is_refused_too(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "train.jsonl", [{"key": 1, "prompt": "x"}])
    as_jsonl(tmp_path / "test.jsonl", [{"key": 1, "prompt": "y"}, {"key": None, "prompt": "z"}])
    made = task(tmp_path / "train.jsonl", test_path=tmp_path / "test.jsonl", id_column="key")
    with accounted() as account:
        assert [item.prompt.text for item in every(made)] == ["x", "y"]
    assert account.first_refused == f"{tmp_path / 'test.jsonl'}, line 2: no key"


@pytest.mark.parametrize("layout", ["prompts.parquet", "prompts.jsonl"])
def test_a_list_of_references_is_taken_whole_and_none_is_none(layout: str, tmp_path: Path) -> None:
    rows: Rows = [{"prompt": "a", "answer": ["x", "y"]}, {"prompt": "b", "answer": None}, {"prompt": "c", "answer": []}]
    LAYOUTS[layout](tmp_path / layout, rows)
    found = every(task(tmp_path / layout, reference_column="answer"))
    assert [i.references for i in found] == [["x", "y"], [], []]


def test_numbers_are_read_as_text(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "p.jsonl", [{"key": 7, "prompt": "x", "answer": 2}])
    [item] = every(task(tmp_path / "p.jsonl", id_column="key", reference_column="answer"))
    assert (item.prompt.prompt_id, item.references) == ("7", ["2"])


@pytest.mark.parametrize("layout", ["prompts.csv", "prompts.jsonl"])
def test_text_that_looks_like_something_else_stays_as_it_is_written(layout: str, tmp_path: Path) -> None:
    rows: Rows = [
        {"key": "001", "prompt": "007", "answer": "2001-02-03"},
        {"key": "01", "prompt": "1.50", "answer": "2001-02-04"},
    ]
    LAYOUTS[layout](tmp_path / layout, rows)
    found = every(task(tmp_path / layout, id_column="key", reference_column="answer"))
    assert [[i.prompt.prompt_id, i.prompt.text, *i.references] for i in found] == [list(r.values()) for r in rows]


@pytest.mark.parametrize("answer", ["true", "NA", "null"])
def test_words_that_a_csv_reader_may_read_as_values_stay_words(answer: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"prompt,answer\nx,{answer}\n")
    assert [i.references for i in every(task(tmp_path / "p.csv", reference_column="answer"))] == [[answer]]


def test_line_breaks_in_a_csv_are_text_wherever_they_fall(tmp_path: Path) -> None:
    # The reader takes a file this long in pieces.
    rows: Rows = [{"prompt": f"Question {n}:\n" + "line\n" * 50} for n in range(8000)]
    as_csv(tmp_path / "p.csv", rows)
    assert (tmp_path / "p.csv").stat().st_size > 2**21
    assert [i.prompt.text for i in every(task(tmp_path / "p.csv"))] == sorted(row["prompt"] for row in rows)


def test_a_folder_is_read_whole_and_repeats_are_found_across_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "more").mkdir(parents=True)
    as_jsonl(folder / "a.jsonl", ROWS[:2])
    as_jsonl(folder / "more" / "b.jsonl", ROWS[1:])
    assert [i.prompt.text for i in every(task(folder))] == sorted(str(row["prompt"]) for row in ROWS)
    assert "key b occurs more than once" in refusal(task(folder, id_column="key"))


def test_the_id_of_a_prompt_does_not_depend_on_the_layout(tmp_path: Path) -> None:
    ids = []
    for name, write in LAYOUTS.items():
        write(tmp_path / name, ROWS)
        ids.append([i.prompt.prompt_id for i in every(task(tmp_path / name))])
    assert ids == ids[:1] * len(LAYOUTS)


def test_a_parquet_file_that_is_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    as_parquet(path, [{"prompt": f"{n} {n * n}"} for n in range(1000)])
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(500) + content[600:])
    assert f"{path} cannot be read" in refusal(task(path))


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "p.parquet")
    assert "p.parquet has no rows" in refusal(task(tmp_path / "p.parquet"))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert f"no file or folder {tmp_path / 'p.csv'}" in refusal(task(tmp_path / "p.csv"))
    as_csv(tmp_path / "q.csv", ROWS)
    assert f"no file or folder {tmp_path / 'p.csv'}" in refusal(task(tmp_path / "q.csv", test_path=tmp_path / "p.csv"))
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is no file that ends in" in refusal(task(tmp_path / "empty"))


def test_a_split_without_a_prompt_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path / "p.csv", ROWS[:1])
    # Of one row, one of the splits has none.
    with pytest.raises(UserError) as caught:
        [list(task(tmp_path / "p.csv").items(split, 0)) for split in SPLITS]
    assert f"{tmp_path / 'p.csv'} leaves no test prompts with test_share 0.1: set test_path" in str(caught.value)


def test_a_list_is_no_text(tmp_path: Path) -> None:
    as_parquet(tmp_path / "p.parquet", [{"prompt": ["Say", "one"]}])
    wanted = f"none of 1 rows can be used; {tmp_path / 'p.parquet'}, row 1: prompt holds a list, not text"
    assert refusal(task(tmp_path / "p.parquet")) == wanted


def test_a_csv_row_without_its_id_is_refused_and_one_without_a_reference_has_none(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("key,prompt,answer\n1,x,\n")
    assert [i.references for i in every(task(tmp_path / "p.csv", reference_column="answer"))] == [[]]
    (tmp_path / "p.csv").write_text("key,prompt,answer\n1,x,\n,y,\n")
    with accounted() as account:
        assert len(every(task(tmp_path / "p.csv", id_column="key"))) == 1
    assert account.first_refused == f"{tmp_path / 'p.csv'}, line 3: no key"


def test_of_a_folder_the_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "a.jsonl", ROWS)
    as_jsonl(tmp_path / "b.jsonl", [{"key": "a", "prompt": "x"}])
    assert f"{tmp_path / 'b.jsonl'}, line 1: key a occurs more than once" in refusal(task(tmp_path, id_column="key"))
    (tmp_path / "b.jsonl").write_bytes('{"prompt": "café"}\n'.encode("latin-1"))
    assert f"{tmp_path / 'b.jsonl'}, line 1: not UTF-8" in refusal(task(tmp_path, max_bad_lines=0))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    as_jsonl(tmp_path / "many.jsonl", [{"prompt": f"Question {n}", "answer": str(n)} for n in range(2000)])
    return tmp_path / "many.jsonl"


def texts(items: list[LabelledPrompt]) -> set[str]:
    return {item.prompt.text for item in items}


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_asked_for_is_held_out_and_never_trained_on(many: Path, share: float) -> None:
    made = task(many, test_share=share)
    train, test = list(made.items("train", 0)), list(made.items("test", 0))
    assert texts(train) & texts(test) == set()
    assert len(train) + len(test) == 2000
    assert len(test) / 2000 == pytest.approx(share, abs=0.03)


def test_what_is_held_out_depends_on_id_and_seed_and_not_on_the_place(many: Path, tmp_path: Path) -> None:
    test = texts(list(task(many).items("test", 0)))
    assert test == texts(list(task(many).items("test", 0)))
    assert test != texts(list(task(many).items("test", 1)))
    lines = many.read_text().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_text("".join(reversed(lines[:1000])))
    first = {f"Question {n}" for n in range(1000)}
    assert texts(list(task(tmp_path / "fewer.jsonl").items("test", 0))) == test & first


def test_a_file_of_its_own_may_be_held_out(many: Path, tmp_path: Path) -> None:
    as_csv(tmp_path / "test.csv", ROWS)
    made = task(many, test_path=tmp_path / "test.csv")
    assert len(list(made.items("train", 0))) == 2000
    assert texts(list(made.items("test", 0))) == {str(row["prompt"]) for row in ROWS}


def talks(first: int, last: int) -> Rows:
    """Five turns of each conversation."""
    turns = [(talk, turn) for talk in range(first, last) for turn in range(5)]
    return [{"key": f"{talk}/{turn}", "prompt": f"Turn {turn} of {talk}", "talk": talk} for talk, turn in turns]


def test_a_group_is_in_one_split_and_is_one_cluster(stored: Callable[[Rows], Path]) -> None:
    made = task(stored(talks(0, 200)), group_column="talk", test_share=0.2)
    train, test = list(made.items("train", 0)), list(made.items("test", 0))
    assert len(train) + len(test) == 1000
    assert not {item.cluster for item in train} & {item.cluster for item in test}
    assert {item.cluster for item in train + test} == {str(talk) for talk in range(200)}
    assert len(test) / 1000 == pytest.approx(0.2, abs=0.08)
    assert texts(test) != texts(list(made.items("test", 1)))


def test_a_row_without_a_group_is_one_of_its_own(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "p.jsonl", [row | {"talk": None} for row in talks(0, 200)])
    with_column = task(tmp_path / "p.jsonl", group_column="talk")
    assert list(with_column.items("test", 0)) == list(task(tmp_path / "p.jsonl").items("test", 0))
    assert {item.unit for item in with_column.items("test", 0)} == {
        item.prompt.prompt_id for item in with_column.items("test", 0)
    }


@pytest.mark.parametrize("options", [{}, {"group_column": "talk"}, {"valid_share": 0.2}])
def test_a_text_is_in_one_split_and_is_one_cluster_whatever_its_ids(tmp_path: Path, options: dict[str, object]) -> None:
    as_jsonl(tmp_path / "p.jsonl", [{"key": f"{n}", "prompt": f"Question {n % 50}", "talk": None} for n in range(500)])
    made = task(tmp_path / "p.jsonl", id_column="key", test_share=0.3, **options)
    parts = [list(made.items(split, 0)) for split in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 500
    assert sum(len(texts(part)) for part in parts) == 50
    assert sum(len({item.unit for item in part}) for part in parts) == 50


def test_a_text_of_several_groups_is_only_in_the_first_split_that_has_it(tmp_path: Path) -> None:
    greeted = [{"key": f"{talk}/hello", "prompt": f"Hello {talk % 9}", "talk": talk} for talk in range(200)]
    as_jsonl(tmp_path / "p.jsonl", talks(0, 200) + greeted)
    made = task(tmp_path / "p.jsonl", group_column="talk", test_share=0.1, valid_share=0.1)
    parts = [list(made.items(split, 0)) for split in ("train", "valid", "test")]
    found = [texts(part) for part in parts]
    assert all(found)
    assert len(set[str]().union(*found)) == sum(map(len, found)) == 1009
    assert len({item.cluster for part in parts for item in part}) == 200
    as_jsonl(tmp_path / "test.jsonl", [{"key": "x", "prompt": "Hello 1", "talk": "another"}])
    made = task(tmp_path / "p.jsonl", group_column="talk", test_path=tmp_path / "test.jsonl")
    assert "Hello 1" not in texts(list(made.items("train", 0)))


def test_a_group_of_the_test_file_is_not_trained_on(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "train.jsonl", talks(0, 20))
    as_jsonl(tmp_path / "test.jsonl", [row for row in talks(15, 30) if row["key"].endswith("/0")])
    made = task(tmp_path / "train.jsonl", test_path=tmp_path / "test.jsonl", group_column="talk")
    assert {item.cluster for item in made.items("train", 0)} == {str(talk) for talk in range(15)}
    assert len(list(made.items("test", 0))) == 15
    same = task(tmp_path / "train.jsonl", test_path=tmp_path / "train.jsonl", group_column="talk")
    with pytest.raises(UserError, match="leaves no train prompts: all of them, or their groups, are in test_path"):
        list(same.items("train", 0))


def test_a_text_of_the_test_file_is_not_trained_on_whatever_its_id(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "train.jsonl", ROWS)
    as_jsonl(tmp_path / "test.jsonl", [ROWS[1] | {"key": "a"}])
    made = task(tmp_path / "train.jsonl", test_path=tmp_path / "test.jsonl", id_column="key")
    assert [item.prompt.prompt_id for item in made.items("train", 0)] == ["a", "c"]


def test_a_group_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "p.jsonl", ROWS)
    assert "has no column talk" in refusal(task(tmp_path / "p.jsonl", group_column="talk"))


def test_without_a_group_column_a_run_of_before_goes_on() -> None:
    assert "group_column" not in task(Path("p.csv")).model_dump(mode="json")
    assert task(Path("p.csv"), group_column="talk").model_dump(mode="json")["group_column"] == "talk"


def test_stages_before_evaluation_see_no_reference(many: Path) -> None:
    made = task(many, reference_column="answer")
    seen = list(training_prompts(made, 0))
    assert seen == [item.prompt for item in made.items("train", 0)]
    assert not any(hasattr(prompt, "references") or prompt.fields for prompt in seen)


PATTERN = r"(?im)^answer:(.*)$"


@pytest.mark.parametrize(
    ("pattern", "text", "answer", "key"),
    [
        (None, " Paris.\n", "Paris.", "paris"),
        (None, "  \n", None, None),
        (PATTERN, "Let me see.\nAnswer: Paris\n", "Answer: Paris", "paris"),
        (PATTERN, "Answer: Lyon\nNo:\nANSWER:  the Paris!", "ANSWER:  the Paris!", "paris"),
        (PATTERN, "Paris", None, None),
        (PATTERN, "Answer:", None, None),
        (PATTERN, "Answer: Paris\nAnswer: ", "Answer: Paris", "paris"),
        (r"\d+", "3 plus 4 is 7.", "7", "7"),
        (r"\d*", "no number", None, None),
        (r"\b(yes|no)\b", "Well, yes and no", "no", "no"),
        (r"Answer: (yes|no)|unknown", "It is unknown", "unknown", "unknown"),
        (r"Answer: (\w*)", "Answer: ", None, None),
        (r"(\d+) apples|(\d+) pears", "3 apples or 4 pears", "4 pears", "4 pears"),
        (r"\\boxed\{([^}]*)\}", r"So \boxed{1} or \boxed{42}.", r"\boxed{42}", "42"),
    ],
)
def test_the_answer_is_the_last_match_and_its_group_is_compared(
    pattern: str | None, text: str, answer: str | None, key: str | None
) -> None:
    made = task(Path("p.csv"), answer_pattern=pattern)
    found = made.parse(text, ANY)
    assert found == answer
    if found is not None:
        assert made.parse(found, ANY) == found, "a model trained on the answer gives an answer that is read"
        assert made.key(found) == key


@pytest.mark.parametrize(
    ("normalisation", "one", "other", "same"),
    [
        ("exact", "Paris", "paris", False),
        ("caseless", "Paris", "paris", True),
        ("caseless", "Paris.", "paris", False),
        ("words", "The Paris.", "paris", True),
        ("number", "It is 1,200", "1200.0", True),
        ("number", "It is 7", "8", False),
    ],
)
def test_answers_are_compared_after_the_normalisation_named(
    normalisation: str, one: str, other: str, same: bool
) -> None:
    made = task(Path("p.csv"), normalisation=normalisation)
    assert (made.key(one) == made.key(other)) is same
    assert made.correct(one, ["none of it", other]) is same


def test_a_reference_need_not_match_the_pattern_that_answers_do() -> None:
    made = task(Path("p.csv"), answer_pattern=r"Answer: (.*)")
    assert made.correct(made.parse("So. Answer: Paris", ANY), ["paris"])
    assert made.correct(made.parse("So. Answer: Paris", ANY), ["Answer: paris"])
    assert not made.correct(made.parse("So. Answer: Paris", ANY), ["Lyon"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "path: Field required"),
        ({"path": "p.csv", "answer_pattern": "("}, "answer_pattern is no regular expression"),
        ({"path": "p.csv", "test_share": 1}, "test_share: Input should be less than 1"),
        ({"path": "p.csv", "normalisation": "fuzzy"}, "normalisation: Input should be 'exact', 'caseless'"),
    ],
)
def test_options_are_checked(options: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        load_task(Named.model_validate({"name": "prompts"} | options))
    assert f"task prompts: {problem}" in str(caught.value)


def test_the_source_names_the_file_and_its_licence() -> None:
    assert task(Path("/data/p.csv"), licence="CC0").source == "p.csv; licence: CC0"
