"""The methods by name. A new one is a file beside this and a line in `METHODS`."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from s2d_ray.config import Named, Strict, parse
from s2d_ray.errors import UserError
from s2d_ray.imports import import_object
from s2d_ray.system2 import direct, system2_attention
from s2d_ray.system2.program import Method

METHODS: Mapping[str, tuple[Callable[..., Awaitable[str]], Mapping[str, Any]]] = {
    "direct": (direct.direct, {}),
    "s2a": (system2_attention.system2_attention, system2_attention.PROMPTS),
}
"""Name → (function, its prompt sets)."""


class PromptSet(Strict):
    """The options of a shipped method."""

    prompts: str = "paper"
    """Which prompt set: `paper` (zero-shot) or `few_shot` (worked examples, for small models)."""


def load_method(section: Named) -> Method:
    """The method that a recipe names, its prompt set bound.

    Raises UserError for an unknown name, prompt set or option.
    """
    if ":" in section.name:
        return (
            partial(import_object(section.name), **section.options) if section.options else import_object(section.name)
        )
    if section.name not in METHODS:
        raise UserError(
            f"no method {section.name}: shipped are {', '.join(METHODS)}; your own is my_module:my_function"
        )
    function, prompt_sets = METHODS[section.name]
    options = parse(PromptSet, section.options, where=f"method {section.name}")
    if not prompt_sets:
        return function
    if options.prompts not in prompt_sets:
        raise UserError(f"method {section.name} has no prompt set {options.prompts}: {', '.join(prompt_sets)}")
    return partial(function, prompts=prompt_sets[options.prompts])
