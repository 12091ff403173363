import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_ray.data.records import LabelledPrompt, Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.tasks import response_pairs
from s2d_ray.tasks.judge import Judge
from s2d_ray.tasks.reading import placed_rows
from s2d_ray.tasks.refusals import Account, Place, Refused, accounted
from s2d_ray.tasks.response_pairs import ResponsePair

ANY = Prompt("id", [user("")], {"question": "Q", "response_a": "1", "response_b": "2"})


def pairs_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[ResponsePair]:
    return response_pairs.pairs_of([(Place("rows", number), dict(row)) for number, row in enumerate(rows, start=1)])


def message(name: str, parent: str | None, text: str, rank: int | None = None, **other: Any) -> dict[str, Any]:
    role = "assistant" if parent else "prompter"
    row = {"message_id": name, "parent_id": parent, "text": text, "role": role, "lang": "en", "rank": rank}
    return row | {"deleted": False} | other


def verdicts(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """question, better, worse - wherever the pair puts them."""
    better = {"A": (1, 2), "B": (2, 1)}
    return {(p.question, p[better[p.verdict][0]], p[better[p.verdict][1]]) for p in pairs_of(rows)}


def test_oasst_messages_become_first_turn_english_pairs() -> None:
    rows = [
        message("q", None, "ask"),
        message("r0", "q", "best", 0),
        message("r1", "q", "fair", 1),
        message("r2", "q", "worst", 2),
        message("deleted", "q", "gone", 3, deleted=True),
        message("unranked", "q", "new"),
        message("q2", "r0", "go on", 0, role="prompter"),
        message("x", "q2", "second turn", 0),
        message("y", "q2", "second turn too", 1),
        message("d", None, "frag", lang="de"),
        message("d0", "d", "gut", 0, lang="de"),
        message("d1", "d", "schlecht", 1, lang="de"),
    ]
    assert verdicts(rows) == {("ask", "best", "fair"), ("ask", "best", "worst"), ("ask", "fair", "worst")}


def test_oasst_trees_give_the_same_pairs_as_messages() -> None:
    replies = [message(f"r{n}", "q", text, n) for n, text in enumerate(("best", "fair"))]
    tree = {"message_tree_id": "q", "prompt": message("q", None, "ask") | {"replies": replies}}
    assert verdicts([tree]) == {("ask", "best", "fair")}


def test_the_better_response_is_not_in_one_place() -> None:
    places = Counter(item.references[0] for item in Judge().items("train", 0))
    assert 0.4 < places["A"] / places.total() < 0.6


def vote(winner: str, a: str = "m1", b: str = "m2", turn: int = 1) -> dict[str, Any]:
    def said(model: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": f"by {model}"}]

    sides = {"model_a": a, "model_b": b, "conversation_a": said(a), "conversation_b": said(b)}
    return {"question_id": 81, "judge": "x", "winner": winner, "turn": turn, **sides}


def test_mt_bench_votes_become_a_majority_in_either_order() -> None:
    second_turn = [vote("model_b", turn=2)] * 3
    rows = [vote("model_a"), vote("model_b", "m2", "m1"), vote("model_b"), *second_turn]
    assert list(pairs_of(rows)) == [ResponsePair("Q?", "by m1", "by m2", "A")]
    assert next(pairs_of([vote("model_a"), vote("model_b")])).verdict == "tie"
    assert next(pairs_of([vote("tie (inconsistent)")])).verdict == "tie"


def test_other_layouts() -> None:
    llmbar = [{"input": "Q", "output_1": "1", "output_2": "2", "label": 2}]
    plain = [{"question": "Q", "response_a": "1", "response_b": "2"}]
    assert list(pairs_of(llmbar)) == [ResponsePair("Q", "1", "2", "B")]
    assert list(pairs_of(plain)) == [ResponsePair("Q", "1", "2", "")]
    with pytest.raises(UserError, match="chosen, rejected has no known layout"):
        list(pairs_of([{"chosen": "1", "rejected": "2"}]))


def test_mt_bench_is_tested_by_category_beside_the_pairs() -> None:
    items = list(Judge().items("test", 0))
    groups = Counter(item.group for item in items if item.subset == "mt_bench")
    assert groups.total() == 100
    assert {"writing", "math", "stem"} <= groups.keys()
    assert "" not in groups
    assert any(item.subset == "pairs" for item in items)
    assert all(item.subset == "pairs" for item in Judge().items("train", 0))


def test_no_pair_is_trained_on_that_asks_as_one_of_mt_bench_but_for_punctuation(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(plain_pair(n)) + "\n" for n in range(9)))
    asked = "HOW do I cook  dish 3"
    (tmp_path / "b.jsonl").write_text(json.dumps(plain_pair(3, question=asked)) + "\n")
    # All but nothing is for training.
    task = Judge(path=str(tmp_path / "a.jsonl"), mt_bench_path=str(tmp_path / "b.jsonl"), test_share=1e-9)
    with accounted() as account:
        trained = {item.prompt.fields["question"] for item in task.items("train", 0)}
    assert trained == {plain_pair(n)["question"] for n in range(9) if n != 3}
    assert (account.held_out_too, account.alike) == (1, 1)


def test_few_and_short_pairs_of_a_question(tmp_path: Path) -> None:
    replies = [message(f"r{n}", "q", f"reply {n}" + " long" * 100 * (n == 5), n) for n in range(6)]
    tree = {"message_tree_id": "q", "prompt": message("q", None, "ask") | {"replies": replies}}
    file = tmp_path / "trees.jsonl"
    file.write_text(json.dumps(tree))

    def count(**options: Any) -> int:
        task = Judge(path=str(file), **options)
        return len([*task.items("train", 0), *task.items("test", 0)])

    assert count() == 3
    assert count(pairs_per_question=99) == 15
    assert count(pairs_per_question=99, max_characters=100) == 10


def test_swapping_exchanges_the_responses_and_maps_back() -> None:
    item = next(Judge().items("train", 0))
    [variant] = Judge().variants(item.prompt)
    assert variant.name == "swap"
    assert variant.prompt.fields["response_a"] == item.prompt.fields["response_b"]
    assert variant.prompt.text.index(item.prompt.fields["response_b"]) < variant.prompt.text.index(
        item.prompt.fields["response_a"]
    )
    assert [variant.map_back(v) for v in ("A", "B", "tie")] == ["B", "A", "tie"]
    assert variant.prompt.prompt_id != item.prompt.prompt_id
    assert not Judge(perturbations=()).variants(item.prompt)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A", "A"),
        ("B.", "B"),
        ("tie", "tie"),
        ("Verdict: B", "B"),
        ("**A**\nbecause", "A"),
        ("Response B is better.", "B"),
        ("Both are good, but response A is better in detail.", "A"),
        ("Both are fine: [[A]]? No, [[B]]", "B"),
        ("[[C]]", "tie"),
        ("A good response names its sources.", None),
        ("Response A is better in tone, response B is better in detail.", None),
        ("a, b or c", None),
        ("Neither.", None),
        ("", None),
    ],
)
def test_verdicts_are_read_however_they_are_put(text: str, verdict: str | None) -> None:
    assert Judge().parse(text, ANY) == verdict


@given(st.text())
def test_any_text_is_read_or_not(text: str) -> None:
    assert Judge().parse(text, ANY) in (None, "A", "B", "tie")


SPELLED: Mapping[str, Sequence[object]] = {
    "A": [
        "A",
        "a",
        " A ",
        "model_a",
        "Model A",
        "response_a",
        "assistant-a",
        "output_1",
        "A>B",
        "A >> B",
        "[[A]]",
        "B<A",
    ],
    "B": ["B", "b", "model_b", "2", 2, 2.0, "2.0", "B>A", "[B]", "(b)", "a<b", "Response B", "b."],
    "tie": [
        "tie",
        "Tie",
        "tie (bothbad)",
        "both_bad",
        "both bad",
        "tie (inconsistent)",
        "A=B",
        "[[A=B]]",
        "[[C]]",
        "draw",
    ],
    "": [None, "", " "],
}


@pytest.mark.parametrize(("verdict", "spelled"), [(v, one) for v, spellings in SPELLED.items() for one in spellings])
def test_the_usual_spellings_of_a_verdict_are_read(verdict: str, spelled: object) -> None:
    assert response_pairs.verdict_of(spelled) == verdict


@pytest.mark.parametrize("spelled", ["C>A", "0", -1, 3, 0.5, "better", "model_c", "A or B", True])
def test_another_verdict_is_refused_by_its_name(spelled: object) -> None:
    with pytest.raises(Refused) as caught:
        response_pairs.verdict_of(spelled)
    assert str(caught.value) == f"no verdict is spelled so: {spelled}"


def plain_pair(number: int, **other: Any) -> dict[str, Any]:
    responses = {"response_a": f"Boil it {number}.", "response_b": f"Ask {number}.", "verdict": "A"}
    return {"question": f"How do I cook dish {number}?"} | responses | other


def pairs_in(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[list[LabelledPrompt], Account]:
    """Every pair of a file, and what became of the others."""
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with accounted() as account:
        return list(Judge(path=str(path), test_path=str(path)).items("test", 0)), account


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"response_a": None}, "no response_a"),
        ({"response_b": " "}, "no response_b"),
        ({"question": None}, "no question"),
        ({"response_b": ["x"]}, "response_b holds a list, not text"),
        ({"response_b": "\ud83d"}, "response_b has half of a character (a lone surrogate)"),
        ({"verdict": "neither of us"}, "no verdict is spelled so: neither of us"),
    ],
)
def test_a_bad_pair_is_refused_and_the_others_are_judged(bad: dict[str, Any], reason: str, tmp_path: Path) -> None:
    items, account = pairs_in(tmp_path, [*map(plain_pair, range(5)), plain_pair(5, **bad)])
    assert [item.references for item in items] == [["A"]] * 5
    assert account.first_refused == f"{tmp_path / 'pairs.jsonl'}, line 6: {reason}"
    assert account.refused.total() == 1
    with pytest.raises(UserError, match=r"none of 2 rows can be used; .*line 1: "):
        pairs_in(tmp_path, [plain_pair(5, **bad)] * 2)


def test_labels_of_llmbar_may_be_texts() -> None:
    rows = [{"input": "Q", "output_1": "1", "output_2": "2", "label": label} for label in ("1", "2", 1, 2)]
    assert [pair.verdict for pair in pairs_of(rows)] == ["A", "B", "A", "B"]


def test_where_no_turn_is_named_the_first_is_meant() -> None:
    without = {key: value for key, value in vote("model_a").items() if key != "turn"}
    for rows in ([without], [without | {"turn": None}], [without | {"turn": 1.0}], [without | {"turn": "1"}]):
        assert list(pairs_of(rows)) == [ResponsePair("Q?", "by m1", "by m2", "A")]
    assert not list(pairs_of([without | {"turn": 2}]))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"conversation_a": [{"role": "user", "content": "Q?"}]}, "conversation_a does not begin with a question and"),
        ({"conversation_b": []}, "no conversation_b"),
        ({"conversation_b": None}, "no conversation_b"),
        ({"conversation_a": vote("model_a")["conversation_a"][::-1]}, "conversation_a does not begin with a question"),
        (
            {"conversation_b": [{"role": "user", "content": "R?"}, {"role": "assistant", "content": "x"}]},
            "the two conv",
        ),
        ({"winner": None}, "no winner"),
        ({"winner": "model_c"}, "no verdict is spelled so: model_c"),
    ],
)
def test_a_bad_vote_is_refused_and_the_others_count(bad: dict[str, Any], reason: str, tmp_path: Path) -> None:
    items, account = pairs_in(tmp_path, [vote("model_a"), vote("model_b") | bad])
    assert [item.references for item in items] == [["A"]]
    assert account.first_refused.startswith(f"{tmp_path / 'pairs.jsonl'}, line 2: {reason}")


def test_conversations_of_an_arena_may_begin_with_a_system_prompt_and_come_as_json() -> None:
    row = vote("model_b")
    for side in ("conversation_a", "conversation_b"):
        row[side] = json.dumps([{"role": "system", "content": "Be brief."}, *row[side]])
    assert list(pairs_of([row])) == [ResponsePair("Q?", "by m1", "by m2", "B")]


def test_bad_trees_and_replies_are_refused(tmp_path: Path) -> None:
    replies = [message(f"r{n}", "q", text, n) for n, text in enumerate(("best", "fair"))]
    good = {"message_tree_id": "q", "prompt": message("q", None, "ask") | {"replies": replies}}
    null = {"message_tree_id": "n", "prompt": None}
    text = {"message_tree_id": "t", "prompt": "ask"}
    texts = {"message_tree_id": "t", "prompt": good["prompt"] | {"replies": ["best", "fair"]}}  # type: ignore[operator]
    unknown = {"message_tree_id": "u", "prompt": good["prompt"] | {"replies": [replies[0] | {"rank": "last"}]}}  # type: ignore[operator]
    nobody = {"message_tree_id": "o", "prompt": good["prompt"] | {"replies": [{"text": "by whom?", "rank": 0}]}}  # type: ignore[operator]
    mute = {"message_tree_id": "m", "prompt": good["prompt"] | {"replies": [replies[0], replies[1] | {"text": None}]}}  # type: ignore[operator]
    items, account = pairs_in(tmp_path, [good, null, mute, text, texts, unknown, nobody])
    assert len(items) == 1
    assert account.refused == {
        "no prompt": 1,
        "no text of a reply": 1,
        "prompt is no tree of messages": 2,
        "rank of a reply is no number": 1,
    }


@pytest.mark.parametrize(
    ("rows", "missing"),
    [([plain_pair(0)], "response_b"), ([vote("model_a")], "conversation_b")],
    ids=["plain", "arena"],
)
def test_a_column_of_pairs_that_is_missing_in_a_later_file_is_named_with_it(
    rows: list[dict[str, Any]], missing: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    rest = {key: value for key, value in rows[0].items() if key != missing}
    (tmp_path / "b.jsonl").write_text(json.dumps(rest) + "\n")
    with pytest.raises(UserError) as caught:
        list(Judge(path=str(tmp_path)).items("train", 0))
    assert str(caught.value) == f"{tmp_path / 'b.jsonl'} has no column {missing}; it has {', '.join(rest)}"


def test_a_table_of_messages_may_be_a_csv(tmp_path: Path) -> None:
    rows = [message("q", None, "ask"), *(message(f"r{n}", "q", f"reply {n}", n) for n in range(12))]
    rows.append(message("gone", "q", "gone", 12, deleted=True))
    with (tmp_path / "m.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    found = {(pair.question, *pair[1:]) for pair in response_pairs.pairs_of(placed_rows(str(tmp_path / "m.csv")))}
    assert found == {(pair.question, *pair[1:]) for pair in pairs_of(rows)}
    assert len(found) == 66
