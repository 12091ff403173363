"""The requests and responses of OpenAI's chat and completions APIs, as far as the arms can honour them.

A field that would change the answer and is not supported is refused, never ignored.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from s2d_ray.arms import CoreArm
from s2d_ray.data.records import Prompt, Step
from s2d_ray.errors import UserError
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Strict
from s2d_ray.serving.forms import ResponseFormat, StructuredOutputs
from s2d_ray.serving.messages import ChatMessage
from s2d_ray.serving.neutral import NeutralChatFields, NeutralFields, NeutralTextFields
from s2d_ray.tasks.asking import asked
from s2d_ray.tasks.task import Task

JsonObject = dict[str, Any]
MODELS: Mapping[str, CoreArm | None] = {
    "s2d": None,
    "s2d:student": "student",
    "s2d:teacher": "teacher",
    "s2d:base": "base",
}
"""Model name that a client asks for → arm; None where the experiment decides."""


class BadRequest(UserError):
    """The client's mistake."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code
        """Which field is at fault, and which kind of mistake it is, by OpenAI's name; None where that is not known."""


class NoSuchModel(BadRequest):
    """The client asks for a model that is not served."""


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
    def thought(self) -> str:
        """What the model thought before the text; empty where it did not."""
        return self.steps[-1].thought if self.steps else ""

    @property
    def prompt_tokens(self) -> int:
        """Read in all calls."""
        return sum(step.prompt_tokens for step in self.steps)

    @property
    def completion_tokens(self) -> int:
        """Generated in all calls."""
        return sum(step.completion_tokens for step in self.steps)


MAX_STOPS, MAX_STOP = 4, 64
"""Texts that end an answer, as many as OpenAI's API takes, and characters of one."""
MAX_USER, MAX_NAME, MAX_MESSAGES = 512, 100, 1000
"""Characters of a user's and of a model's name, and messages of a chat."""
MAX_INT = 2**63 - 1
Tokens = Annotated[int, Field(ge=1, le=MAX_INT)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]


class StreamOptions(Strict):
    """What a stream tells beside the text."""

    include_usage: bool | None = False
    """Send the token counts at the end."""
    include_obfuscation: bool | None = None
    """Makes pieces of equal size elsewhere; not here."""


class Extension(Strict):
    """What this server can do beyond OpenAI's API."""

    trace: bool = False
    """Send every step of the method, and which arm answered."""


class CompletionRequest(NeutralFields, ABC):
    """What both bodies have in common."""

    model: str = Field(max_length=MAX_NAME)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    """In each call of the method; unset is what evaluation asked for."""
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: Stop | Annotated[tuple[Stop, ...], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = Field(None, ge=-MAX_INT - 1, le=MAX_INT)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    user: str | None = Field(None, max_length=MAX_USER)
    """The same user gets the same arm."""
    s2d: Extension = Extension()

    @property
    def answer_format(self) -> AnswerFormat | None:
        """The form that the answer is asked for in, if any."""
        asked = self.structured_outputs or self.response_format
        return None if asked is None else asked.answer_format

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.structured_outputs and self.response_format and self.response_format.answer_format:
            raise ValueError("response_format and structured_outputs both ask for a form: send one")
        return self

    @property
    def most_tokens(self) -> int | None:
        """As asked for."""
        return self.max_tokens

    @property
    @abstractmethod
    def asked_by(self) -> str:
        """The field that has what is asked."""

    @abstractmethod
    def prompt(self, task: Task) -> Prompt:
        """Raises UserError where the task cannot make a prompt of what was asked."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The object that the response is; in a stream its pieces may have a name of their own."""

    @abstractmethod
    def choice(self, text: str, thought: str) -> JsonObject:
        """The whole text, in the response's form, and what was thought before it, where that is shown."""

    @abstractmethod
    def piece(self, text: str | None, first: bool = False, thought: str = "") -> JsonObject:
        """A part of the text in a stream, or none; the last one may tell the thought."""

    def sampling(self, default: Sampling, limit: int) -> Sampling:
        """As asked for, and `default` where nothing is. Raises BadRequest for more tokens than `limit`."""
        most = self.most_tokens or min(default.max_tokens, limit)
        if most > limit:
            raise BadRequest(f"max_tokens {most} is more than the {limit} that this server allows", "max_tokens")
        asked: JsonObject = {"max_tokens": most}
        asked |= {"temperature": self.temperature} if self.temperature is not None else {}
        asked |= {"top_p": self.top_p} if self.top_p is not None else {}
        asked |= {"answer_stop": (self.stop,) if isinstance(self.stop, str) else self.stop} if self.stop else {}
        asked |= {"answer_format": form} if (form := self.answer_format) is not None else {}
        return default.model_copy(update=asked)


class ChatRequest(CompletionRequest, NeutralChatFields):
    """The body of /v1/chat/completions."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: Tokens | None = None
    """The newer name of `max_tokens`."""
    include_reasoning: bool | None = True
    """Tell what the model thought before the answer, where the arm that gave it thinks."""

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def asked_by(self) -> str:
        return "messages"

    @property
    def kind(self) -> str:
        return "chat.completion.chunk" if self.stream else "chat.completion"

    def choice(self, text: str, thought: str) -> JsonObject:
        return {"message": {"role": "assistant", "content": text, "refusal": None} | self._reasoning(thought)}

    def piece(self, text: str | None, first: bool = False, thought: str = "") -> JsonObject:
        delta = ({"role": "assistant"} if first else {}) | ({} if text is None else {"content": text})
        return {"delta": delta | self._reasoning(thought)}

    def _reasoning(self, thought: str) -> JsonObject:
        # By vLLM's name, and by the one that most other servers and clients have.
        return {"reasoning": thought, "reasoning_content": thought} if thought and self.include_reasoning else {}

    def prompt(self, task: Task) -> Prompt:
        """As the task makes it of the last turn, after the turns before."""
        return asked(task, [message.message for message in self.messages])


def _single(prompt: object) -> object:
    """A list of one text is that text; anything else is left to the check that follows."""
    if not isinstance(prompt, list):
        return prompt
    if len(prompt) != 1 or not isinstance(prompt[0], str):
        raise ValueError("one text can be answered at a time, and no token ids")
    return prompt[0]


class TextRequest(CompletionRequest, NeutralTextFields):
    """The body of /v1/completions: its prompt is asked as a question, as in a chat of one message."""

    prompt_text: Annotated[str, BeforeValidator(_single)] = Field(alias="prompt")

    @property
    def asked_by(self) -> str:
        return "prompt"

    @property
    def kind(self) -> str:
        return "text_completion"

    def choice(self, text: str, thought: str) -> JsonObject:
        return {"text": text}

    def piece(self, text: str | None, first: bool = False, thought: str = "") -> JsonObject:
        return {"text": text or ""}

    def prompt(self, task: Task) -> Prompt:
        """As the task makes it."""
        return task.ask(self.prompt_text)


def completion_body(request_id: str, request: CompletionRequest, created: int, answer: ServedAnswer) -> JsonObject:
    """The response in one piece."""
    told = request.choice(answer.text, answer.thought)
    choice = {"index": 0, **told, "finish_reason": answer.finish_reason, "logprobs": None}
    body = _head(request_id, request, created)
    return body | {"choices": [choice], "usage": _usage(answer)} | _trace(request, answer)


def chunk(request_id: str, request: CompletionRequest, created: int, text: str | None, *, first: bool = False) -> bytes:
    """One piece of a streamed response; the first of a chat names the role."""
    choice = {"index": 0, **request.piece(text, first), "finish_reason": None}
    return sent_event(_head(request_id, request, created) | {"choices": [choice]})


def last_chunks(request_id: str, request: CompletionRequest, created: int, answer: ServedAnswer) -> bytes:
    """The end of a streamed response."""
    head = _head(request_id, request, created)
    told = request.piece(None, thought=answer.thought)
    choice = {"index": 0, **told, "finish_reason": answer.finish_reason}
    end = sent_event(head | {"choices": [choice]} | _trace(request, answer))
    if request.stream_options and request.stream_options.include_usage:
        end += sent_event(head | {"choices": [], "usage": _usage(answer)})
    return end + b"data: [DONE]\n\n"


def models_body(created: int) -> JsonObject:
    """The response of /v1/models."""
    return {"object": "list", "data": [model_body(name, created) for name in MODELS]}


def model_body(name: str, created: int) -> JsonObject:
    """The response of /v1/models/NAME. Raises NoSuchModel."""
    return {"id": known_model(name), "object": "model", "created": created, "owned_by": "s2d"}


def known_model(name: str) -> str:
    """The name itself. Raises NoSuchModel."""
    if name not in MODELS:
        raise NoSuchModel(f"no model {name}: there are {', '.join(MODELS)}", "model", "model_not_found")
    return name


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> JsonObject:
    """What an OpenAI client shows of a request that has no answer."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


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
