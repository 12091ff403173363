import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import LabelledPrompt, Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.biased_trivia import TEMPLATES, BiasedTrivia

ANY = Prompt("id", [user("")], {})


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sycophancy_rows(questions: int, dataset: str = "trivia_qa") -> list[dict[str, Any]]:
    """SycophancyEval's layout, with its four templates over invented questions."""
    rows = []
    for n in range(questions):
        base: dict[str, Any] = {
            "dataset": dataset,
            "question": f"Who is {n}?" if dataset == "trivia_qa" else f"What is {n}?",
        }
        base |= {"correct_answer": f"R{n}", "incorrect_answer": f"W{n}"}
        base |= {"answer": [f"R{n}", f"Alias {n}"]} if dataset == "trivia_qa" else {}
        for template in TEMPLATES.values():
            rows.append(
                {
                    "prompt": [{"type": "human", "content": template.format(**base)}],
                    "base": base,
                    "metadata": {"prompt_template": template},
                }
            )
    return rows


def by_question(items: list[LabelledPrompt]) -> dict[str, list[LabelledPrompt]]:
    grouped = defaultdict(list)
    for item in items:
        grouped[item.prompt.fields["plain"]].append(item)
    return grouped


def test_sycophancy_eval_keeps_a_questions_variants_together(tmp_path: Path) -> None:
    task = BiasedTrivia(path=write(tmp_path / "answer.jsonl", sycophancy_rows(50)))
    train, test = by_question(list(task.items("train", 0))), by_question(list(task.items("test", 0)))
    assert not train.keys() & test.keys()
    assert len(train) + len(test) == 50
    for items in [*train.values(), *test.values()]:
        assert {item.subset for item in items} == {"biased", "doubt", "right", "plain"}
    for item in test.popitem()[1]:
        assert (" W" in item.prompt.text.replace("Who", "")) == (item.subset == "biased")
        assert len(item.references) == 2


def test_sycophancy_eval_is_read_over_one_data_set(tmp_path: Path) -> None:
    rows = sycophancy_rows(20) + sycophancy_rows(7, "truthful_qa")
    path = write(tmp_path / "answer.jsonl", rows)
    for only, count in (("trivia_qa", 80), ("truthful_qa", 28), (None, 108)):
        task = BiasedTrivia(path=path, only_dataset=only)
        assert len([*task.items("train", 0), *task.items("test", 0)]) == count
    with pytest.raises(UserError, match="there is trivia_qa, truthful_qa"):
        list(BiasedTrivia(path=path, only_dataset="nq").items("train", 0))


def test_an_unknown_template_is_refused(tmp_path: Path) -> None:
    rows = sycophancy_rows(3)
    rows[1]["metadata"]["prompt_template"] = "{question} Obviously it is {correct_answer}."
    with pytest.raises(UserError, match="unknown prompt_template"):
        list(BiasedTrivia(path=write(tmp_path / "answer.jsonl", rows)).items("train", 0))


def test_the_builder_asks_each_test_question_in_all_four_ways() -> None:
    for question, items in by_question(list(BiasedTrivia().items("test", 0))).items():
        assert {item.subset for item in items} == set(TEMPLATES)
        for item in items:
            assert item.prompt.text.startswith(question)
            opinion = item.prompt.text.removeprefix(question)
            planted = re.sub(r".*the answer is |,? but I'm really not sure\.", "", opinion)
            assert (planted == item.references[0]) == (item.subset in ("right", "doubt"))
            assert ("I don't think" in opinion) == (item.subset == "doubt")
            assert (opinion == "") == (item.subset == "plain")


def test_a_planted_wrong_answer_is_wrong() -> None:
    task = BiasedTrivia(opinions={"biased": 1.0})
    for item in task.items("train", 0):
        planted = item.prompt.fields["opinion"]
        assert planted in item.prompt.text.replace(item.prompt.fields["plain"], "")
        assert task.key(planted) not in {task.key(reference) for reference in item.references}


def test_training_opinions_have_the_shares_asked_for() -> None:
    subsets = [item.subset for item in BiasedTrivia(opinions={"biased": 0.7, "plain": 0.3}).items("train", 0)]
    assert set(subsets) == {"biased", "plain"}
    assert 0.6 < subsets.count("biased") / len(subsets) < 0.8


@pytest.mark.parametrize("opinions", [{}, {"biased": 0.0}, {"biased": 1.0, "plain": -1.0}])
def test_opinions_are_shares(opinions: Any) -> None:
    with pytest.raises(ValueError, match="shares"):
        BiasedTrivia(opinions=opinions)


def test_other_layouts_of_questions_and_answers(tmp_path: Path) -> None:
    answers = [{"answer": f"R{n}", "aliases": [f"A{n}"]} for n in range(30)]
    foundry = [{"context": f"Question: Who is {n}?\nAnswer:", **answer} for n, answer in enumerate(answers)]
    nested = [
        {"question": f"Who is {n}?", "answer": {"value": answer["answer"], "aliases": answer["aliases"]}}
        for n, answer in enumerate(answers)
    ]
    first = BiasedTrivia(path=write(tmp_path / "a.jsonl", foundry), question_column="context")
    second = BiasedTrivia(path=write(tmp_path / "b.jsonl", nested))
    assert list(first.items("train", 0)) == list(second.items("train", 0))
    item = next(second.items("test", 0))
    assert item.prompt.fields["plain"].startswith("Who is")
    assert [r[0] for r in item.references] == ["R", "A"]


def test_one_answer_only_cannot_be_doubted(tmp_path: Path) -> None:
    rows = [{"question": f"Is it {n}?", "answer": "yes"} for n in range(9)]
    with pytest.raises(UserError, match="no wrong opinion"):
        list(BiasedTrivia(path=write(tmp_path / "a.jsonl", rows)).items("train", 0))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Antelope", True),
        ("A dik-dik is an antelope.", True),
        ("It is the hybrid  antelope!", True),
        ("Cantelopes", False),
        ("A horse.", False),
        ("", False),
        (None, False),
    ],
)
def test_an_answer_is_right_when_it_holds_a_reference(answer: str | None, right: bool) -> None:
    assert BiasedTrivia().correct(answer, ["Antelope", "🐎", "Antelopes"]) == right


@given(st.text())
def test_an_answer_is_read_as_itself(text: str) -> None:
    answer = BiasedTrivia().parse(text, ANY)
    assert answer is None or (answer and BiasedTrivia().parse(answer, ANY) == answer)


def test_every_right_answer_of_the_shipped_data_is_read_and_right_but_for_one_in_three_hundred() -> None:
    items = [*BiasedTrivia().items("train", 0), *BiasedTrivia().items("test", 0)]
    answers = {(item.prompt.text, reference) for item in items for reference in item.references}
    unread = {reference for asked, reference in answers if not right(asked, reference)}
    assert len(unread) < len({reference for _, reference in answers}) / 300, unread


def right(asked: str, text: str) -> bool:
    prompt = BiasedTrivia().ask(asked)
    return BiasedTrivia().correct(BiasedTrivia().parse(text, prompt), [text])
