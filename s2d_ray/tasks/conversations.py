"""Conversations as people store them, read as chats: the OpenAI and ShareGPT forms.

    {"role": "user", "content": "…"}     {"from": "human", "value": "…"}

The last turn by the user is what is asked. What comes behind it is no part of the prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from s2d_ray.data.records import LabelledPrompt, Message, Prompt, content_id
from s2d_ray.tasks.deduplication import SeenIds
from s2d_ray.tasks.reading import parsed
from s2d_ray.tasks.refusals import Refused, text_of, written

ROLES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai"), "assistant"),
}
"""What a turn's speaker is called → its role here."""
TOOL_ROLES = {"tool", "function", "function_call", "function_response", "observation", "tool_call", "tool_response"}
CALLS = ("tool_calls", "function_call")
OFFERS = ("tools", "functions")
"""Beside the turns of a request: what the model may call."""
TEXT_PARTS = {"text", "input_text", "output_text"}


class Conversation(NamedTuple):
    """A chat up to the last turn by the user, and what was answered."""

    messages: Sequence[Message]
    answer: str
    """What the assistant said to it; empty where nothing is known."""


def conversation(value: Any, column: str) -> Conversation:
    """The conversation of a cell: a list of turns, or JSON that says one.

    Turns by the system without a text are passed over, and so is what was thought before an answer.
    Raises Refused for what is no conversation of texts, or has no turn by the user.
    """
    messages = turns_of(value, column)
    asked = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=None)
    if asked is None:
        raise Refused("no turn by the user")
    answers = (message["content"] for message in messages[asked + 1 :] if message["role"] == "assistant")
    return Conversation([*map(said, messages[: asked + 1])], next((one for one in answers if one.strip()), ""))


def turns_of(value: Any, column: str) -> list[Message]:
    """All turns of a cell, some of which may say nothing. Raises Refused for what is none of texts."""
    turns = parsed(value)
    if not turns:
        raise Refused(f"no {column}")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Refused(f"{column} holds something else than turns")
    return list(_messages(turns))


def said(turn: Message) -> Message:
    """The turn. Raises Refused where it says nothing."""
    text_of(turn["content"], f"text in a turn by the {turn['role']}")
    return turn


def ids(messages: Sequence[Message]) -> list[str]:
    """Of the conversation up to each turn by the user; the last is its own. That of a lone text is the text's."""
    found, so_far = [], ""
    for message in messages:
        role, content = message["role"], message["content"]
        so_far = content_id(so_far, role, content) if so_far or role != "user" else content_id(content)
        if role == "user":
            found.append(so_far)
    return found


class Conversations(NamedTuple):
    """All that a data set has, and which of them belong together."""

    rows: SeenIds
    groups: SeenIds
    """Of those that rows with a group go on from, and of these: the group."""

    def add(self, item: LabelledPrompt) -> None:
        """One that a row has."""
        line = ids(item.prompt.messages)
        self.rows.add(line[-1])
        for one in line if item.cluster else ():
            self.groups.add(one, item.cluster)

    def cluster(self, prompt: Prompt) -> str:
        """Of a row without a group: that of a row that it goes on from or that goes on from it, else the first such."""
        *earlier, own = ids(prompt.messages)
        line = [*(one for one in earlier if one in self.rows), own]
        return next(filter(None, map(self.groups.said_of, line)), line[0])


def _messages(turns: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    for turn in turns:
        role = _role(_first(turn, "role", "from"))
        if any(turn.get(call) for call in CALLS):
            raise Refused("a turn calls a tool")
        content = _content(_first(turn, "content", "value"))
        if role != "system" or content.strip():
            yield {"role": role, "content": content}


def _first(turn: Mapping[str, Any], *keys: str) -> Any:
    return next((turn[key] for key in keys if turn.get(key) is not None), None)


def _role(speaker: Any) -> str:
    name = str(speaker).casefold()
    if name in TOOL_ROLES:
        raise Refused("a turn by a tool")
    if name not in ROLES:
        raise Refused(f"a turn by an unknown speaker: {written(speaker, 'speaker')[:40]}")
    return ROLES[name]


def _content(value: Any) -> str:
    """A turn's text, which may come in parts."""
    if not isinstance(value, list):
        return written(value, "a turn")
    return "".join(map(_part, value))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return written(part, "a turn")
    kind = written(part.get("type"), "the type of a part") if isinstance(part, dict) else type(part).__name__
    if kind not in TEXT_PARTS:
        raise Refused(f"a turn has a part that is no text: {kind[:40]}")
    return written(part.get("text"), "a turn")
