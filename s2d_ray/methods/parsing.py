"""Reading what a method asked the model for: a final answer behind a prefix, or the whole text of a step."""

import re
import string

from s2d_ray.data.records import Completion
from s2d_ray.methods.method import MalformedOutput

_DECORATION = string.whitespace + "*`"


def parse_final_answer(completion: Completion, prefix: str) -> str:
    """The line after the last `prefix` (with `:`, `is` or both; `is not` gives none), without emphasis.

    Raises MalformedOutput where there is no prefix, nothing after it, or the token limit cut the answer.
    """
    found = list(re.finditer(re.escape(prefix) + r"\**\s*(?:is\b\s*:?|:)(?!\s*not\b)", completion.text, re.IGNORECASE))
    if not found:
        raise MalformedOutput(f"no answer marked with {prefix!r}" + _endless(completion))
    answer, line_break, _ = completion.text[found[-1].end() :].strip(_DECORATION).partition("\n")
    if not answer:
        raise MalformedOutput(f"nothing after {prefix!r}" + _endless(completion))
    if completion.finish_reason == "length" and not line_break:
        raise MalformedOutput("the answer was cut by the token limit")
    return answer.strip(_DECORATION)


def parse_step(completion: Completion, what: str) -> str:
    """The text of an intermediate step. Raises MalformedOutput where it is empty or was cut by the token limit."""
    if completion.finish_reason == "length":
        raise MalformedOutput(f"the {what} was cut by the token limit")
    if not completion.text.strip():
        raise MalformedOutput(f"the {what} is empty")
    return completion.text.strip()


def _endless(completion: Completion) -> str:
    return " (the text ran into the token limit)" if completion.finish_reason == "length" else ""
