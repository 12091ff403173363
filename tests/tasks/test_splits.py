"""What holds for every task: the splits are disjoint, the same each time, and prompts carry no label."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from s2d_ray.answers.normalisation import caseless
from s2d_ray.data.records import LabelledPrompt
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.biased_trivia import TEMPLATES
from s2d_ray.tasks.reading import load_rows
from s2d_ray.tasks.registry import TASKS, load_task
from s2d_ray.tasks.rows import split_of
from s2d_ray.tasks.task import Split, Task, training_prompts

SPLITS: tuple[Split, ...] = get_args(Split)
SHARED: dict[str, dict[str, Any]] = {
    "last_letter": {},
    "coin_flip": {"train_items": 500, "valid_items": 100, "test_items": 100},
    "biased_trivia": {"valid_share": 0.2},
    "judge": {"valid_share": 0.2},
    "gsm8k": {"valid_share": 0.2},
}
KEPT_APART = {
    "last_letter": "words",
    "coin_flip": "acts",
    "biased_trivia": "plain",
    "judge": "question",
    "gsm8k": "bare",
}


def task_named(name: str) -> Task:
    return load_task(Named(name=name, **SHARED[name]))


def split_items(name: str, seed: int = 0) -> dict[Split, list[LabelledPrompt]]:
    return {split: list(task_named(name).items(split, seed)) for split in SPLITS}


def units(name: str, items: list[LabelledPrompt]) -> set[str]:
    """What must not straddle the splits: a word, a person, a question."""
    texts = [item.prompt.fields[KEPT_APART[name]] for item in items]
    if name == "last_letter":
        return {word for text in texts for word in text.split()}
    if name == "coin_flip":
        return {line.split()[0] for text in texts for line in text.splitlines()}
    return set(texts)


@pytest.mark.parametrize("name", SHARED)
def test_splits_are_filled_and_disjoint(name: str) -> None:
    found = {split: units(name, items) for split, items in split_items(name).items()}
    assert all(found.values())
    for one, other in combinations(SPLITS, 2):
        assert not found[one] & found[other]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name in TASKS if name != "prompts"])
def test_no_cluster_is_in_two_splits(name: str, seed: int) -> None:
    task = load_task(Named(name=name, **SHARED.get(name, {"valid_cities": 50})))
    parts = [{item.unit for item in task.items(split, seed)} for split in SPLITS]
    assert all(parts)
    for one, other in combinations(parts, 2):
        assert not one & other


@pytest.mark.parametrize(("name", "forms"), [("geonames", 4), ("biased_trivia", 4), ("gsm8k", 1), ("judge", 1)])
def test_all_that_is_asked_about_one_thing_is_one_cluster(name: str, forms: int) -> None:
    items = list(load_task(Named(name=name, **SHARED.get(name, {}))).items("test", 0))
    asked = Counter(item.cluster for item in items)
    assert "" not in asked
    assert min(asked.values()) >= forms
    if name == "judge":
        assert all(caseless(item.prompt.fields["question"]) == item.cluster for item in items)
        assert max(asked.values()) > 1
    if name == "biased_trivia":
        assert all(caseless(item.prompt.fields["plain"]) == item.cluster for item in items)
        assert {item.subset for item in items} == set(TEMPLATES)


def test_what_is_generated_is_its_own() -> None:
    for name in ("last_letter", "coin_flip"):
        assert {item.cluster for item in task_named(name).items("test", 0)} == {""}


def test_a_question_of_mt_bench_is_not_trained_on(tmp_path: Path) -> None:
    rows = [{"question": f"ask {n}", "response_a": "x", "response_b": "y", "verdict": "A"} for n in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row | {"response_b": "z"}) + "\n" for row in rows[:10]))
    task = load_task(
        Named(name="judge", path=str(tmp_path / "pairs.jsonl"), mt_bench_path=str(tmp_path / "bench.jsonl"))
    )
    train, test = ({item.cluster for item in task.items(split, 0)} for split in ("train", "test"))
    assert len(train) > 10
    assert {f"ask {n}" for n in range(10)} <= test
    assert not train & test


@pytest.mark.parametrize("name", SHARED)
def test_the_same_seed_gives_the_same_items_and_another_gives_others(name: str) -> None:
    assert split_items(name) == split_items(name)
    assert split_items(name)["train"] != split_items(name, seed=1)["train"]


@pytest.mark.parametrize("name", SHARED)
def test_ids_are_unique_and_every_item_has_a_reference(name: str) -> None:
    items = [item for found in split_items(name).values() for item in found]
    assert len({item.prompt.prompt_id for item in items}) == len(items)
    assert all(item.references for item in items)


@pytest.mark.parametrize("name", SHARED)
def test_a_reference_is_an_answer_that_the_parser_reads_and_the_scorer_accepts(name: str) -> None:
    task = task_named(name)
    for item in task.items("test", 0):
        answer = task.parse(item.references[0], item.prompt)
        assert task.correct(answer, item.references)
        assert not task.correct(None, item.references)


@pytest.mark.parametrize("name", ["gsm8k", "judge", "biased_trivia"])
def test_prompts_do_not_depend_on_the_labels(name: str, tmp_path: Path) -> None:
    rows = {"gsm8k": maths, "judge": trees, "biased_trivia": sycophancy}[name]
    seen = []
    for poisoned in (False, True):
        file = tmp_path / f"{poisoned}.jsonl"
        file.write_text("\n".join(json.dumps(row) for row in rows(poisoned)))
        task = load_task(Named(name=name, path=str(file)))
        seen.append(list(training_prompts(task, 0)))
        assert len(seen[-1]) > 10
    assert seen[0] == seen[1]


def maths(poisoned: bool) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": f"so\n#### {0 if poisoned else n + 1}"} for n in range(40)]


def trees(poisoned: bool) -> list[dict[str, Any]]:
    def reply(text: str, rank: int) -> dict[str, Any]:
        return {"text": text, "role": "assistant", "lang": "en", "deleted": False, "rank": -rank if poisoned else rank}

    def tree(n: int) -> dict[str, Any]:
        replies = [reply(f"reply {n} {rank}", rank) for rank in range(4)]
        return {"message_tree_id": str(n), "prompt": {"text": f"ask {n}", "lang": "en", "replies": replies}}

    return [tree(n) for n in range(40)]


def sycophancy(poisoned: bool) -> list[dict[str, Any]]:
    def row(n: int) -> dict[str, Any]:
        question = f"Who is number {n}?"
        base = {"dataset": "trivia_qa", "question": question, "incorrect_answer": f"M{n}"}
        base |= {"correct_answer": "poison" if poisoned else f"N{n}"}
        # The opinions in subsets doubt and right are labels that a prompt shows.
        template = TEMPLATES["plain" if n % 4 == 0 else "biased"]
        turns = [{"type": "human", "content": template.format(**base)}]
        return {"prompt": turns, "base": base, "metadata": {"prompt_template": template}}

    return [row(n) for n in range(40)]


def test_what_a_file_repeats_is_asked_once(tmp_path: Path) -> None:
    rows = {"gsm8k": maths(False), "judge": trees(False), "biased_trivia": sycophancy(False)}
    for name, once in rows.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in once * 2))
        asked = [prompt.prompt_id for prompt in training_prompts(load_task(Named(name=name, path=str(file))), 0)]
        assert len(asked) == len(set(asked)) > 10


def test_shares_hold_over_many_questions() -> None:
    parts = [split_of(f"question {n}", 0, 0.2, 0.1) for n in range(5000)]
    assert 0.18 < parts.count("test") / 5000 < 0.22
    assert 0.08 < parts.count("valid") / 5000 < 0.12


def test_a_question_of_the_test_file_is_not_trained_on(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in maths(False)))
    test.write_text(json.dumps({"question": "what is  7 + 1?", "answer": "#### 8"}))
    task = load_task(Named(name="gsm8k", path=str(train), test_path=str(test)))
    asked = {prompt.fields["bare"] for prompt in training_prompts(task, 0)}
    assert len(asked) == 39
    assert "What is 7 + 1?" not in asked
    assert [item.references for item in task.items("test", 0)] == [["8"]]


def test_rows_come_from_a_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for question in ("What is 1 + 1?", "What is 2 + 2?"):
        rows = [{"question": question, "answer": "#### 2"}]
        path.write_text(json.dumps(rows[0]))
        assert list(load_rows(str(path))) == rows


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "columns.jsonl").write_text('{"q": "What?"}')
    with pytest.raises(UserError, match="no column question; it has q") as caught:
        list(load_task(Named(name="gsm8k", path=str(tmp_path / "columns.jsonl"))).items("train", 0))
    assert "\n" not in str(caught.value)


def test_a_hub_name_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nobody/nothing is neither a file here nor to be had from the hub"):
        list(load_task(Named(name="gsm8k", path="nobody/nothing")).items("train", 0))


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        load_task(Named(name="gsm8k", test_share=0.5, valid_share=0.5))
