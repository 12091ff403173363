"""How a chat is put to the model: its template, what the template is told, and how a thought is told from an answer."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from s2d_ray.recipes.strict import Strict

TemplateArguments = Mapping[str, Any]
"""What a chat template is told beside the messages, such as `enable_thinking: true`."""


class Chat(Strict):
    """Of the model in every stage and in serving, so that System 1 is trained on the very prompt that it is served."""

    template: str | None = None
    """A chat template (Jinja) in place of the model's own."""
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What the template is told in every call that does not say otherwise. Where the template has a switch for
    thinking, and nothing is said of it, it is off."""
    reasoning: str | None = None
    """vLLM's reasoning parser that tells a thought from the answer; unset: chosen by the marks that the template has;
    `none` for none."""


DEFAULT_CHAT = Chat()
"""The model's own template, told nothing but that it shall not think."""
