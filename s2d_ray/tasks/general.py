"""What every run is also measured on, whatever it distils: replies that people wrote, and prompts of many kinds.

Nothing of it is trained on as a target. The replies are OpenAssistant's that people ranked first, the prompts
MT-Bench's first questions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from s2d_ray.answers.normalisation import caseless
from s2d_ray.data.records import Message, content_id, user
from s2d_ray.data.records import Row as Record
from s2d_ray.tasks.reading import load_rows
from s2d_ray.tasks.rows import shipped_file

SOURCE = "OpenAssistant's replies that people ranked first, and MT-Bench's first questions (both Apache-2.0; excerpts)"
CHARACTERS = 1000
"""Of a prompt and its reply together, at most: a few hundred tokens."""


class GeneralItem(NamedTuple):
    """A prompt with a reply whose likelihood is measured, or one that is answered."""

    item_id: str
    prompt: str
    reply: str
    """Written by a person; empty where the models answer."""

    @property
    def messages(self) -> list[Message]:
        """The prompt as a chat."""
        return [user(self.prompt)]


def general_items(number: int) -> list[GeneralItem]:
    """So many replies and so many prompts, drawn by a hash of what they say: the same for every run and model."""
    return [*_drawn(_replies(), number), *_drawn(_prompts(), number)]


def known(items: Iterable[GeneralItem], rows: Iterable[Record]) -> set[str]:
    """Ids of the items whose prompt is, or is part of, one of these rows of schema `PROMPTS`."""
    ids = {caseless(item.prompt): item.item_id for item in items}
    texts = (text for row in rows for text in _texts(row))
    return {ids[key] for text in texts if (key := caseless(text)) in ids}


def _texts(row: Record) -> Iterator[str]:
    yield from (message["content"] for message in row["messages"])
    yield from (field["value"] for field in row["fields"])


def _drawn(items: Iterable[GeneralItem], number: int) -> Sequence[GeneralItem]:
    return sorted(items, key=lambda item: item.item_id)[:number]


def _item(prompt: str, reply: str = "") -> GeneralItem:
    return GeneralItem(content_id("general", prompt, reply), prompt, reply)


def _replies() -> Iterator[GeneralItem]:
    for tree in load_rows(shipped_file("oasst-trees.jsonl")):
        prompt: dict[str, Any] = tree["prompt"]
        best = next((reply["text"] for reply in prompt["replies"] if reply.get("rank") == 0), "")
        if best and len(prompt["text"]) + len(best) <= CHARACTERS:
            yield _item(prompt["text"], best)


def _prompts() -> Iterator[GeneralItem]:
    return (_item(row["turns"][0]) for row in load_rows(shipped_file("mt_bench-questions.jsonl")))
