"""Conversations as people store them: read as chats up to the last turn by the user, or refused with a reason."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.records import Prompt, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.conversations import conversation
from s2d_ray.tasks.prompt_file import PromptFile
from s2d_ray.tasks.refusals import Refused, accounted
from s2d_ray.tasks.task import Split

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | more


CHAT = [turn("system", "Be brief."), turn("user", "Hello"), turn("assistant", "Hi."), turn("user", "What is 2 + 2?")]


def as_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_all(path: Path, **options: Any) -> list[Prompt]:
    """Every prompt, in the order of its text."""
    made = PromptFile.model_validate({"path": path, "test_path": path} | options)
    return sorted((item.prompt for item in made.items("test", 0)), key=lambda prompt: prompt.text)


def share_gpt(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    speakers = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": speakers[one["role"]], "value": one["content"]} for one in chat]


@pytest.mark.parametrize(
    "stored",
    [
        CHAT,
        json.dumps(CHAT),
        share_gpt(CHAT),
        [turn("developer", "Be brief."), *CHAT[1:]],
        [*CHAT, turn("assistant", "4.")],
        [*CHAT[:3], turn("user", [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}])],
        [*CHAT[:2], turn("assistant", "Hi.", reasoning_content="They greet me.", tool_calls=None), CHAT[3]],
        [*CHAT[:1], turn("system", ""), *CHAT[1:]],
    ],
    ids=["openai", "json", "sharegpt", "developer", "answered", "parts", "thought", "empty system"],
)
def test_every_form_is_the_same_chat(stored: Any) -> None:
    assert conversation(stored, "messages").messages == CHAT


def test_what_was_said_to_the_last_turn_is_apart() -> None:
    chat = [*CHAT, turn("assistant", "4."), turn("assistant", "Four.")]
    assert conversation(chat, "messages") == (CHAT, "4.")
    for nothing in ("", None, " "):
        assert conversation([*CHAT, turn("assistant", nothing)], "messages") == (CHAT, "")
    assert conversation(CHAT, "messages").answer == ""


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (None, "no messages"),
        ([], "no messages"),
        ("Hello", "messages holds something else than turns"),
        (["Hello"], "messages holds something else than turns"),
        ({"messages": CHAT}, "messages holds something else than turns"),
        ([turn("system", "Be brief."), turn("assistant", "Hi.")], "no turn by the user"),
        ([turn("user", None)], "no text in a turn by the user"),
        ([turn("user", "  ")], "no text in a turn by the user"),
        ([turn("user", "\ud83d")], "a turn has half of a character (a lone surrogate)"),
        ([turn("user", {"text": "Hello"})], "a turn holds a structure, not text"),
        ([turn("user", [{"type": ["text"], "text": "Hello"}])], "the type of a part holds a list, not text"),
        ([turn("user", [{"type": "\ud83d"}])], "the type of a part has half of a character (a lone surrogate)"),
        ([turn("user", "Hi"), turn("assistant", ""), turn("user", "And?")], "no text in a turn by the assistant"),
        ([turn("narrator", "It rains.")], "a turn by an unknown speaker: narrator"),
        ([turn("user", "Hi"), turn("tool", "sunny"), turn("user", "And?")], "a turn by a tool"),
        ([turn("user", "Hi"), turn("assistant", None, tool_calls=[{"id": "1"}])], "a turn calls a tool"),
        ([turn("user", "Hi"), turn("assistant", None, function_call={"name": "f"})], "a turn calls a tool"),
        (
            [turn("user", [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {}}])],
            "a turn has a part that is no text: image_url",
        ),
    ],
)
def test_what_is_no_conversation_of_texts_is_refused_with_its_reason(stored: Any, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        conversation(stored, "messages")
    assert str(caught.value) == reason


def test_a_refused_conversation_is_a_row_and_not_the_run(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "c.jsonl", [{"messages": CHAT}, {"messages": None}, {"messages": [turn("tool", "x")]}])
    with accounted() as account:
        assert [prompt.messages for prompt in read_all(path, messages_column="messages")] == [CHAT]
    assert account.refused == {"no messages": 1, "a turn by a tool": 1}
    assert account.first_refused == f"{path}, line 2: no messages"
    assert account.rows == 3


def test_a_log_of_requests_is_read_as_it_is(tmp_path: Path) -> None:
    plain = [{"model": "m", "temperature": 0, "messages": [user(f"What is {n}?")]} for n in range(3)]
    batch = [{"custom_id": f"r{n}", "method": "POST", "body": row} for n, row in enumerate(plain)]
    said = [{"id": f"r{n}", "body": json.dumps(row)} for n, row in enumerate(plain)]
    wanted = [f"What is {n}?" for n in range(3)]
    for rows, column in ((plain, "messages"), (batch, "body.messages"), (said, "body.messages")):
        asked = read_all(as_lines(tmp_path / "log.jsonl", rows), messages_column=column)
        assert [prompt.text for prompt in asked] == wanted
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
        assert read_all(tmp_path / "log.parquet", messages_column=column) == asked


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_request_that_offers_tools_is_refused(tmp_path: Path, packed: bool, suffix: str) -> None:
    offered = [[{"type": "function", "function": {"name": "weather"}}], None, []]
    rows: list[dict[str, Any]] = [{"messages": [user(f"Ask {n}")], "tools": one} for n, one in enumerate(offered)]
    rows = [{"body": row} for row in rows] if packed else rows
    path = tmp_path / f"log.{suffix}"
    if suffix == "jsonl":
        as_lines(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with accounted() as account:
        asked = read_all(path, messages_column="body.messages" if packed else "messages")
    assert [prompt.text for prompt in asked] == ["Ask 1", "Ask 2"]
    assert account.refused == {"the request offers tools": 1}


def test_the_answer_is_a_reference_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "c.jsonl", [{"messages": [*CHAT, turn("assistant", "4.")]}])
    options = {"path": path, "test_path": path, "messages_column": "messages"}
    [item] = PromptFile.model_validate(options).items("test", 0)
    assert item.references == []
    [item] = PromptFile.model_validate(options | {"reference_column": "messages"}).items("test", 0)
    assert item.references == ["4."]
    assert item.prompt.messages == CHAT


def test_a_lone_question_has_the_id_of_its_text_and_a_chat_one_of_all_that_is_said(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "c.jsonl", [{"messages": [user("Alone?")]}, {"messages": CHAT}, {"messages": CHAT[3:]}])
    found = {prompt.prompt_id for prompt in read_all(path, messages_column="messages")}
    assert len(found) == 3
    assert {content_id("Alone?"), content_id("What is 2 + 2?")} <= found


def grown(talk: int) -> list[list[dict[str, Any]]]:
    """What a log holds of one conversation: each request goes on from the last."""
    turns: list[dict[str, Any]] = [turn("system", "Be brief.")]
    rows = []
    for number in range(4):
        turns = [*turns, turn("user", f"Question {number} of talk {talk}")]
        rows.append(turns)
        turns = [*turns, turn("assistant", f"Answer {number}")]
    return rows


def test_the_rows_of_a_log_that_go_on_from_each_other_are_one_cluster(tmp_path: Path) -> None:
    logged = [{"id": f"{talk}/{n}", "messages": row} for talk in range(100) for n, row in enumerate(grown(talk))]
    path = as_lines(tmp_path / "log.jsonl", logged)
    for options in ({}, {"id_column": "id"}):
        made = PromptFile.model_validate(
            {"path": path, "messages_column": "messages", "test_share": 0.3, "valid_share": 0.2} | options
        )
        parts = [list(made.items(split, 0)) for split in SPLITS]
        talks = [{item.prompt.text.rpartition(" ")[2] for item in part} for part in parts]
        assert sum(map(len, parts)) == 400
        assert min(map(len, talks)) > 5
        assert sum(map(len, talks)) == 100
        assert len({item.unit for part in parts for item in part}) == 100


def test_chats_that_only_begin_alike_are_their_own(tmp_path: Path) -> None:
    rows = [{"messages": [*CHAT[:3], user(f"What is case {n}?")]} for n in range(20)]
    made = PromptFile.model_validate(
        {"path": as_lines(tmp_path / "c.jsonl", rows), "messages_column": "messages", "test_share": 0.2}
    )
    train, test = (list(made.items(split, 0)) for split in ("train", "test"))
    assert train
    assert test
    assert len({item.unit for item in train + test}) == len(train + test) == 20


def test_a_log_that_goes_on_in_the_file_for_testing_is_not_trained_on(tmp_path: Path) -> None:
    first = as_lines(tmp_path / "first.jsonl", [{"messages": row} for talk in range(10) for row in grown(talk)[:2]])
    later = as_lines(tmp_path / "later.jsonl", [{"messages": grown(talk)[3]} for talk in range(6)])
    made = PromptFile.model_validate({"path": first, "test_path": later, "messages_column": "messages"})
    assert {item.prompt.text.rpartition(" ")[2] for item in made.items("train", 0)} == {"6", "7", "8", "9"}


def test_a_group_column_goes_before_what_the_turns_say(tmp_path: Path) -> None:
    rows = [{"messages": row, "user": f"u{talk % 5}"} for talk in range(20) for row in grown(talk)]
    path = as_lines(tmp_path / "log.jsonl", rows)
    made = PromptFile.model_validate(
        {"path": path, "test_path": path, "messages_column": "messages", "group_column": "user"}
    )
    assert {item.cluster for item in made.items("test", 0)} == {f"u{n}" for n in range(5)}


@pytest.mark.parametrize("named", [(), (0,), (1,), (2, 3)])
def test_rows_without_a_group_are_with_those_that_they_go_on_from(named: Sequence[int], tmp_path: Path) -> None:
    """In each conversation some of the four rows say whose it is."""
    rows = [
        {"messages": row, "user": f"u{talk}" if n in named else ""}
        for talk in range(100)
        for n, row in enumerate(grown(talk))
    ]
    made = PromptFile.model_validate(
        {
            "path": as_lines(tmp_path / "log.jsonl", rows),
            "messages_column": "messages",
            "group_column": "user",
            "test_share": 0.3,
        }
    )
    train, test = (list(made.items(split, 0)) for split in ("train", "test"))
    talks = [{item.prompt.text.rpartition(" ")[2] for item in part} for part in (train, test)]
    assert len(train) + len(test) == 400
    assert min(map(len, talks)) > 5
    assert not talks[0] & talks[1]
    clusters = {item.unit for item in train + test}
    assert len(clusters) == 100
    assert not named or clusters == {f"u{talk}" for talk in range(100)}


def test_a_row_without_a_group_is_not_with_one_that_only_begins_alike(tmp_path: Path) -> None:
    rows = [{"messages": [*CHAT[:3], user(f"Case {n}?")], "user": f"u{n}" if n % 2 else None} for n in range(10)]
    path = as_lines(tmp_path / "log.jsonl", rows)
    options = {"path": path, "test_path": path, "messages_column": "messages", "group_column": "user"}
    assert len({item.cluster for item in PromptFile.model_validate(options).items("test", 0)}) == 10


def test_a_column_of_texts_and_one_of_conversations_are_not_both_asked_for() -> None:
    with pytest.raises(ValueError, match="set text_column or messages_column, not both"):
        PromptFile.model_validate({"path": "p.jsonl", "text_column": "prompt", "messages_column": "messages"})


def test_a_column_of_conversations_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "c.jsonl", [{"chat": CHAT}])
    for column in ("messages", "body.messages"):
        with pytest.raises(UserError, match=f"has no column {column}; it has chat"):
            read_all(path, messages_column=column)
    with pytest.raises(UserError, match=r"none of 1 rows can be used; .*c\.jsonl, line 1: no chat\.messages"):
        read_all(path, messages_column="chat.messages")
