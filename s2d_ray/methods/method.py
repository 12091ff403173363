"""What a System 2 method is: a plain async function of a prompt and `generate`.

Whatever the method does between its model calls is ordinary Python; it never logs, samples or counts.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from pydantic import Field

from s2d_ray.data.records import Completion, Message, Prompt
from s2d_ray.recipes.chat import TemplateArguments
from s2d_ray.recipes.strict import Strict


class GenerateFunction(Protocol):
    """One model call, with the recipe's sampling where the step does not say otherwise.

    `step` names the call in the trace. `n` completions are drawn; `stop` texts are added to the recipe's;
    `max_tokens` lowers, never raises, the recipe's limit. `template` is what the model's chat template is told in
    this call, `thinking` whether the model thinks first where it can, and `thinking_tokens` how long at most; a step's
    `stop` and `max_tokens` are on what is said after. `final` says that the text is the method's answer, with nothing
    else in it: where the recipe gives answers a form, such a call is held to it.
    """

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        template: TemplateArguments | None = None,
        thinking: bool | None = None,
        thinking_tokens: int | None = None,
        final: bool = False,
    ) -> list[Completion]: ...


Method = Callable[[Prompt, GenerateFunction], Awaitable[str]]
"""Returns the final answer. Raises MalformedOutput where the model's text cannot be used."""


PlainExamples = Sequence[tuple[str, str]]
"""Worked examples as System 1 sees them: what is asked, and the final answer as a target is written."""


class MethodOptions(Strict):
    """The options of a shipped method; one that has more adds them as fields.

    What is said here of thinking holds in every call of the method that does not say otherwise itself. A method of
    one's own says it in its calls.
    """

    prompts: str | None = None
    """Which prompt set; unset: the one without worked examples. That is `paper` where the published prompts are at hand
    (rar1, rar2), and `zero_shot`, in our own words, elsewhere. Small models need worked examples: `few_shot`, or
    `few_shot_cot` where these reason step by step before they answer (rar1, rar2)."""
    thinking: bool | None = None
    """Whether a model that can think does, before each of its texts; unset: as the recipe's `template` has it, else it
    does not."""
    thinking_tokens: int | None = Field(None, ge=0)
    """Tokens of each thought at most, after which it is ended by force; `max_tokens` counts them too. Unset: no limit
    of its own."""
    template: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What the chat template is told in each call, such as `reasoning_effort: high`, beside what the recipe's
    `template` says."""


class MalformedOutput(Exception):
    """A step's text lacks what the method asked for; the sample is kept, counted, and has no answer."""
