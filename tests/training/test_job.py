"""The pairs as token ids: encoded once, and again when something that decides the tokens has changed."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from s2d_ray.data.records import Message, assistant
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Train
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.encoding import ENCODING_VERSION, Encoded, encode
from s2d_ray.training.job import Pairs, TrainJob, load_pairs, without
from tests.training.test_encoding import CHAT, CHATML, WORDS, make

# Of `datasets`, about how it calls pyarrow.
pytestmark = pytest.mark.filterwarnings("default:Specifying null_placement:FutureWarning")


@pytest.fixture
def encoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Loads the pairs of `tmp_path` with the tokenizer there; gives how many were encoded, and not found encoded."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    calls: list[str] = []

    def counted(messages: Sequence[Message], renderer: Renderer) -> Encoded:
        calls.append(messages[-1]["content"])
        return encode(messages, renderer)

    monkeypatch.setattr("s2d_ray.training.job.encode", counted)
    write_pairs(tmp_path, "France", "It")
    make(CHATML, "<end>").save_pretrained(tmp_path / "model")

    def load(chat: Chat = DEFAULT_CHAT) -> int:
        calls.clear()
        renderer = Renderer(PreTrainedTokenizerFast.from_pretrained(tmp_path / "model"), chat)
        pairs = [Pairs([tmp_path / "pairs.parquet"], None)]
        found = load_pairs(TrainJob(Train(), 0, tmp_path / "model", False, pairs, tmp_path, chat=chat), renderer)
        chats = pq.read_table(tmp_path / "pairs.parquet")["messages"].to_pylist()
        assert [Encoded(row["prompt"], row["target"]) for row in found] == [encode(chat, renderer) for chat in chats]
        return len(calls)

    assert load() == 2
    return load


def write_pairs(folder: Path, *answers: str) -> None:
    rows = [{"prompt_id": str(n), "messages": [*CHAT[:-1], assistant(answer)]} for n, answer in enumerate(answers)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")


def test_tokens_are_kept_while_nothing_that_decides_them_changes(encoded_anew: Callable[[], int]) -> None:
    assert encoded_anew() == 0


def test_another_chat_template_in_the_same_folder_encodes_anew(encoded_anew: Callable[[], int], tmp_path: Path) -> None:
    make(CHATML.replace("<start>", "<s>"), "<end>").save_pretrained(tmp_path / "model")
    assert (encoded_anew(), encoded_anew()) == (2, 0)


def test_another_word_of_the_recipe_to_the_template_encodes_anew(
    encoded_anew: Callable[[Chat], int], tmp_path: Path
) -> None:
    for chat in (Chat(arguments={"brief": True}), Chat(template=CHATML.replace("<start>", "<s>"))):
        assert (encoded_anew(chat), encoded_anew(chat)) == (2, 0)


def test_other_pairs_at_the_same_path_are_encoded_anew(encoded_anew: Callable[[], int], tmp_path: Path) -> None:
    before = (tmp_path / "pairs.parquet").stat()
    write_pairs(tmp_path, "France", "Lyon")
    # As a copy that keeps the time of the original.
    os.utime(tmp_path / "pairs.parquet", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (encoded_anew(), encoded_anew()) == (2, 0)


def test_another_version_of_the_encoding_encodes_anew(
    encoded_anew: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2d_ray.training.encoding.ENCODING_VERSION", ENCODING_VERSION + 1)
    assert (encoded_anew(), encoded_anew()) == (2, 0)


ANSWERS = {"It is in France": "France", "Lyon": "Lyon", "in Lyon is in France .": "France ."}
"""What is trained → the answer in which it ends."""


def pairs_of(folder: Path, train: Train, *trained: str) -> list[dict[str, Any]]:
    """The encoded pairs of which these are trained."""
    rows = [
        {"prompt_id": str(n), "messages": [*CHAT[:-1], assistant(text)], "target": ANSWERS[text]}
        for n, text in enumerate(trained)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    return encoded(folder, train)


def encoded(folder: Path, train: Train) -> list[dict[str, Any]]:
    renderer = Renderer(PreTrainedTokenizerFast.from_pretrained(folder / "model"))
    pairs = [Pairs([folder / "pairs.parquet"], None)]
    return list(load_pairs(TrainJob(train, 0, folder / "model", False, pairs, folder), renderer))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    make(CHATML, "<end>").save_pretrained(tmp_path / "model")
    return tmp_path


INTERNALISE = Train.model_validate({"internalise": {}})


def test_a_trace_is_what_is_longer_than_the_answer_and_is_lost_from_its_beginning(folder: Path) -> None:
    whole, bare, other = pairs_of(folder, INTERNALISE, *ANSWERS)
    assert [pair["trace"] for pair in (whole, bare, other)] == [3, 0, 4]
    said = [[WORDS[i] for i in without(whole, lost).target] for lost in range(4)]
    assert said == [
        ["It", "is", "in", "France", "<end>"],
        ["is", "in", "France", "<end>"],
        ["in", "France", "<end>"],
        ["France", "<end>"],
    ]
    assert [WORDS[i] for i in without(bare, 0).target] == ["Lyon", "<end>"]
    assert {tuple(without(whole, lost).prompt) for lost in range(4)} == {tuple(whole["prompt"])}


def test_without_its_trace_a_pair_is_what_the_target_answer_trains(folder: Path) -> None:
    internalised = [without(pair, pair["trace"]) for pair in pairs_of(folder, INTERNALISE, *ANSWERS)]
    renderer = Renderer(PreTrainedTokenizerFast.from_pretrained(folder / "model"))
    assert internalised == [encode([*CHAT[:-1], assistant(answer)], renderer) for answer in ANSWERS.values()]


def test_an_answer_that_is_other_tokens_where_it_stands_alone_is_those_in_the_end() -> None:
    pair = {"prompt": [1], "target": [5, 6, 27, 0], "answer": [7, 0], "trace": 2}
    assert [without(pair, lost).target for lost in range(3)] == [[5, 6, 27, 0], [6, 27, 0], [7, 0]]
    # Where it is more tokens than in the whole, it is the answer from the beginning.
    assert without({"prompt": [1], "target": [27, 0], "answer": [7, 8, 0], "trace": -1}, -1).target == [7, 8, 0]


def test_the_same_pairs_with_and_without_a_trace_to_take_away_are_encoded_apart(folder: Path) -> None:
    [pair] = pairs_of(folder, Train(), "Lyon")
    [with_answer], [again] = encoded(folder, INTERNALISE), encoded(folder, Train())
    assert with_answer.keys() - pair.keys() == {"answer", "trace"}
    assert again == pair


def load(folder: Path) -> None:
    """As a training worker of its own would; each pair that is encoded leaves a mark."""
    from datasets import config

    config.HF_DATASETS_CACHE = folder / "cache"

    def counted(messages: Sequence[Message], renderer: Renderer) -> Encoded:
        (folder / "encoded" / uuid4().hex).touch()
        return encode(messages, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2d_ray.training.job.encode", counted)
        patch.setattr("s2d_ray.training.job.PAIRS_PER_PROCESS", 10)
        patch.setattr("os.cpu_count", lambda: 3)
        renderer = Renderer(PreTrainedTokenizerFast.from_pretrained(folder / "model"))
        pairs = [Pairs([folder / "pairs.parquet"], None)]
        found = load_pairs(TrainJob(Train(), 0, folder / "model", False, pairs, folder), renderer)
        assert [row["prompt_id"] for row in found] == sorted(str(n) for n in range(40))
        chats = {str(n): [*CHAT[:-1], assistant("France" if n % 2 else "It")] for n in range(40)}
        for row in found:
            assert Encoded(row["prompt"], row["target"]) == encode(chats[row["prompt_id"]], renderer)


@pytest.mark.slow
def test_of_several_workers_at_once_one_encodes_in_several_processes(tmp_path: Path) -> None:
    (tmp_path / "encoded").mkdir()
    write_pairs(tmp_path, *["It", "France"] * 20)
    make(CHATML, "<end>").save_pretrained(tmp_path / "model")
    workers = [multiprocessing.get_context("spawn").Process(target=load, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list((tmp_path / "encoded").iterdir())) == 40
    parts = list((tmp_path / "cache").rglob("cache-*_of_*.arrow"))
    assert len(parts) == 3
