"""The methods by name. A new one is a file beside this and a line in `METHODS`."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

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

    Raises UserError for an unknown name, prompt set or option, and for one's own that is no function.
    """
    if ":" in section.name:
        return _own(section)
    if section.name not in METHODS:
        raise UserError(
            f"no method {section.name}: shipped are {', '.join(METHODS)}; your own is my_module:my_function"
        )
    function, prompt_sets = METHODS[section.name]
    options = parse(PromptSet, section.options, where=f"method {section.name}")
    # A method without wording of its own takes any known name: a recipe may change its method and keep the rest.
    known = prompt_sets or {name: None for _, others in METHODS.values() for name in others}
    if options.prompts not in known:
        raise UserError(f"method {section.name} has no prompt set {options.prompts}: {', '.join(known)}")
    return partial(function, prompts=prompt_sets[options.prompts]) if prompt_sets else function


def _own(section: Named) -> Method:
    function = import_object(section.name)
    if not callable(function):
        raise UserError(f"method {section.name} is no function: write an async one of (prompt, generate)")
    return partial(function, **section.options) if section.options else cast(Method, function)
