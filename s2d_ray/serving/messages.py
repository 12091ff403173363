"""A conversation as OpenAI's clients send it, what they echo of earlier answers included."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from s2d_ray.data.records import Message
from s2d_ray.recipes.strict import Strict
from s2d_ray.serving.neutral import Ignored, only


def _plain(content: object) -> object:
    """Text that comes in parts, joined; anything else is left to the check that follows."""
    if not isinstance(content, list):
        return content
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
        raise ValueError("only text can be answered")
    texts = [part["text"] for part in content if isinstance(part.get("text"), str)]
    if len(texts) < len(content):
        raise ValueError("a part of type text has a text")
    return "".join(texts)


class ChatMessage(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_plain)]
    name: str | None = Field(None, max_length=512)
    """Of who speaks; no chat template is told."""
    reasoning: str | None = None
    """What the model thought before an earlier answer: no part of the conversation. vLLM's name for it."""
    reasoning_content: str | None = None
    """The same, as most others call it."""
    refusal: Annotated[Any, only(None)] = None
    tool_calls: Annotated[Any, only(None, [])] = None
    function_call: Annotated[Any, only(None)] = None
    audio: Annotated[Any, only(None)] = None
    annotations: Annotated[Any, only(None, [])] = None
    provider_specific_fields: Ignored = None
    """What LiteLLM adds to answers for its own use."""

    @property
    def message(self) -> Message:
        """As chat templates know it: a developer is who the system was before the name changed."""
        return Message(role="system" if self.role == "developer" else self.role, content=self.content)
