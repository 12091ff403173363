"""The requests and responses of OpenAI's chat and completions APIs, as far as the arms can honour them.

A field that would change the answer and is not supported is refused, never ignored.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from s2d_ray.arms import CoreArm
from s2d_ray.data.records import Message, Prompt, Step, content_id
from s2d_ray.errors import UserError
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Strict
from s2d_ray.tasks.task import Task

JsonObject = dict[str, Any]
MODELS: Mapping[str, CoreArm | None] = {
    "s2d": None,
    "s2d:student": "student",
    "s2d:teacher": "teacher",
    "s2d:base": "base",
}
"""Model name that a client asks for → arm; None where the experiment decides."""


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """What a client gets, and what it took."""

    text: str
    finish_reason: str
    """`stop` or `length`, of the call that gave the answer."""
    arm: CoreArm
    """That gave it: the teacher where the student was not confident enough."""
    steps: Sequence[Step]
    """Every model call, in the order in which they ended."""
    confidence: float | None = None
    escalated: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Read in all calls."""
        return sum(step.prompt_tokens for step in self.steps)

    @property
    def completion_tokens(self) -> int:
        """Generated in all calls."""
        return sum(step.completion_tokens for step in self.steps)


def _plain(content: object) -> object:
    """Text that comes in parts, joined; anything else is left to the check that follows."""
    if not isinstance(content, list):
        return content
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
        raise ValueError("only text can be answered")
    return "".join(str(part.get("text", "")) for part in content)


class ChatMessage(Strict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_plain)]


class StreamOptions(Strict):
    """What a stream tells beside the text."""

    include_usage: bool = False
    """Send the token counts at the end."""


class Extension(Strict):
    """What this server can do beyond OpenAI's API."""

    trace: bool = False
    """Send every step of the method, and which arm answered."""


class CompletionRequest(Strict, ABC):
    """What both bodies have in common."""

    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    """In each call of the method; unset is what evaluation asked for."""
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    n: Literal[1] | None = 1
    user: str | None = Field(None, max_length=512)
    """The same user gets the same arm."""
    s2d: Extension = Extension()

    @property
    def most_tokens(self) -> int | None:
        """As asked for."""
        return self.max_tokens

    @abstractmethod
    def prompt(self, task: Task) -> Prompt:
        """Raises UserError where the task cannot make a prompt of what was asked."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The object that the response is; in a stream its pieces may have a name of their own."""

    @abstractmethod
    def choice(self, text: str) -> JsonObject:
        """The whole text, in the response's form."""

    @abstractmethod
    def piece(self, text: str | None, first: bool) -> JsonObject:
        """A part of the text in a stream, or none."""

    def sampling(self, default: Sampling, limit: int) -> Sampling:
        """As asked for, and `default` where nothing is. Raises UserError for more tokens than `limit`."""
        most = self.most_tokens or min(default.max_tokens, limit)
        if most > limit:
            raise UserError(f"max_tokens {most} is more than the {limit} that this server allows")
        asked: JsonObject = {"max_tokens": most}
        asked |= {"temperature": self.temperature} if self.temperature is not None else {}
        asked |= {"top_p": self.top_p} if self.top_p is not None else {}
        asked |= {"stop": (self.stop,) if isinstance(self.stop, str) else self.stop} if self.stop else {}
        return default.model_copy(update=asked)


class ChatRequest(CompletionRequest):
    """The body of /v1/chat/completions."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    """The newer name of `max_tokens`."""

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def kind(self) -> str:
        return "chat.completion.chunk" if self.stream else "chat.completion"

    def choice(self, text: str) -> JsonObject:
        return {"message": {"role": "assistant", "content": text}}

    def piece(self, text: str | None, first: bool) -> JsonObject:
        return {"delta": ({"role": "assistant"} if first else {}) | ({} if text is None else {"content": text})}

    def prompt(self, task: Task) -> Prompt:
        """As the task makes it of a single question; a longer conversation as it is."""
        if len(self.messages) == 1 and self.messages[0].role == "user":
            return task.ask(self.messages[0].content)
        messages = [Message(role=message.role, content=message.content) for message in self.messages]
        return Prompt(content_id(*(f"{message['role']}: {message['content']}" for message in messages)), messages)


class TextRequest(CompletionRequest):
    """The body of /v1/completions: its prompt is asked as a question, as in a chat of one message."""

    prompt_text: str = Field(alias="prompt")

    @property
    def kind(self) -> str:
        return "text_completion"

    def choice(self, text: str) -> JsonObject:
        return {"text": text}

    def piece(self, text: str | None, first: bool) -> JsonObject:
        return {"text": text or ""}

    def prompt(self, task: Task) -> Prompt:
        """As the task makes it."""
        return task.ask(self.prompt_text)


def completion_body(request_id: str, request: CompletionRequest, created: int, answer: ServedAnswer) -> JsonObject:
    """The response in one piece."""
    choice = {"index": 0, **request.choice(answer.text), "finish_reason": answer.finish_reason, "logprobs": None}
    body = _head(request_id, request, created)
    return body | {"choices": [choice], "usage": _usage(answer)} | _trace(request, answer)


def chunk(request_id: str, request: CompletionRequest, created: int, text: str | None, *, first: bool = False) -> bytes:
    """One piece of a streamed response; the first of a chat names the role."""
    choice = {"index": 0, **request.piece(text, first), "finish_reason": None}
    return sent_event(_head(request_id, request, created) | {"choices": [choice]})


def last_chunks(request_id: str, request: CompletionRequest, created: int, answer: ServedAnswer) -> bytes:
    """The end of a streamed response."""
    head = _head(request_id, request, created)
    choice = {"index": 0, **request.piece(None, first=False), "finish_reason": answer.finish_reason}
    end = sent_event(head | {"choices": [choice]} | _trace(request, answer))
    if request.stream_options and request.stream_options.include_usage:
        end += sent_event(head | {"choices": [], "usage": _usage(answer)})
    return end + b"data: [DONE]\n\n"


def models_body(created: int) -> JsonObject:
    """The response of /v1/models."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": "s2d"} for name in MODELS]
    return {"object": "list", "data": data}


def error_body(message: str, kind: str) -> JsonObject:
    """What an OpenAI client shows of a request that has no answer."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def sent_event(content: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _head(request_id: str, request: CompletionRequest, created: int) -> JsonObject:
    # The name that was asked for: which arm answered stays hidden from who rates the answer.
    return {"id": request_id, "object": request.kind, "created": created, "model": request.model}


def _usage(answer: ServedAnswer) -> JsonObject:
    read, generated = answer.prompt_tokens, answer.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}


def _trace(request: CompletionRequest, answer: ServedAnswer) -> JsonObject:
    if not request.s2d.trace:
        return {}
    steps = [asdict(step) for step in answer.steps]
    return {"s2d": {"arm": answer.arm, "escalated": answer.escalated, "steps": steps}}
