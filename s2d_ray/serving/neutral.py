"""Fields of OpenAI's API that no arm can honour: taken at the values that change no answer, and refused at others."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from s2d_ray.recipes.strict import Strict


def only(*neutral: object) -> BeforeValidator:
    """Takes a field at these values alone."""
    said = " or ".join(json.dumps(value) for value in neutral)

    def check(value: object) -> object:
        # 0 is not false here, and 1 is not true.
        if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral):
            return value
        raise ValueError(f"not supported: leave it out, or send {said}")

    return BeforeValidator(check)


MAX_IGNORED = 16 * 1024
"""Characters, as JSON, of what is taken and not looked at."""


def _small(value: object) -> object:
    if len(json.dumps(value, ensure_ascii=False)) > MAX_IGNORED:
        raise ValueError(f"longer than {MAX_IGNORED} characters")
    return value


Ignored = Annotated[Any, BeforeValidator(_small)]


class NeutralFields(Strict):
    """Of both kinds of request."""

    presence_penalty: Annotated[Any, only(0, None)] = None
    frequency_penalty: Annotated[Any, only(0, None)] = None
    logit_bias: Annotated[Any, only(None, {})] = None
    n: Annotated[Any, only(1, None)] = None
    safety_identifier: str | None = Field(None, max_length=512)
    """The newer name of `user`."""
    # What is stored, billed, cached and scheduled elsewhere changes no answer.
    store: Ignored = None
    metadata: Ignored = None
    service_tier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None


class NeutralChatFields(NeutralFields):
    """Of chats."""

    logprobs: Annotated[Any, only(False, None)] = None
    top_logprobs: Annotated[Any, only(0, None)] = None
    tools: Annotated[Any, only(None, [])] = None
    functions: Annotated[Any, only(None, [])] = None
    tool_choice: Annotated[Any, only("none", "auto", None)] = None
    function_call: Annotated[Any, only("none", "auto", None)] = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[Any, only(["text"], None)] = None
    audio: Annotated[Any, only(None)] = None
    prediction: Annotated[Any, only(None)] = None
    moderation: Annotated[Any, only(None)] = None
    verbosity: Annotated[Any, only("medium", None)] = None
    reasoning_effort: Annotated[Any, only(None)] = None
    web_search_options: Annotated[Any, only(None)] = None


class NeutralTextFields(NeutralFields):
    """Of completions."""

    logprobs: Annotated[Any, only(None)] = None
    best_of: Annotated[Any, only(1, None)] = None
    echo: Annotated[Any, only(False, None)] = None
    suffix: Annotated[Any, only(None, "")] = None
