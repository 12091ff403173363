"""Reading the final answer that a method asked the model to mark."""

import re
import string

from s2d_ray.data.records import Completion
from s2d_ray.methods.method import MalformedOutput

_DECORATION = string.whitespace + "*`"


def marked_answer(completion: Completion, mark: str) -> str:
    """The line after the last `mark` (with `:` or `is`), without emphasis.

    Raises MalformedOutput where there is no mark, nothing after it, or the token limit cut the answer.
    """
    found = list(re.finditer(re.escape(mark) + r"\**\s*(?::|is\b)", completion.text, re.IGNORECASE))
    if not found:
        raise MalformedOutput(f"no answer marked with {mark!r}" + _endless(completion))
    answer, line_break, _ = completion.text[found[-1].end() :].strip(_DECORATION).partition("\n")
    if not answer:
        raise MalformedOutput(f"nothing after {mark!r}" + _endless(completion))
    if completion.finish_reason == "length" and not line_break:
        raise MalformedOutput("the answer was cut by the token limit")
    return answer.strip(_DECORATION)


def complete(completion: Completion, what: str) -> str:
    """The text of an intermediate step. Raises MalformedOutput where it is empty or was cut by the token limit."""
    if completion.finish_reason == "length":
        raise MalformedOutput(f"the {what} was cut by the token limit")
    if not completion.text.strip():
        raise MalformedOutput(f"the {what} is empty")
    return completion.text.strip()


def _endless(completion: Completion) -> str:
    return " (the text ran into the token limit)" if completion.finish_reason == "length" else ""
