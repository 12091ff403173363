"""The methods by name. A new one is a file beside this and a line in `METHODS`."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from s2d_ray.errors import UserError
from s2d_ray.imports import import_object
from s2d_ray.methods import branch_solve_merge, chain_of_thought, direct, rephrase_and_respond, system2_attention
from s2d_ray.methods.method import Method, PromptSet
from s2d_ray.recipes.strict import Named, parse


class Shipped(NamedTuple):
    """A method of the package: what runs, the wordings it may use, and its options."""

    function: Any
    prompt_sets: Mapping[str, Any] = {}
    options: type[PromptSet] = PromptSet


METHODS: Mapping[str, Shipped] = {
    "direct": Shipped(direct.direct),
    "cot": Shipped(chain_of_thought.chain_of_thought, chain_of_thought.PROMPTS),
    "rar1": Shipped(rephrase_and_respond.rephrase_and_respond, rephrase_and_respond.PROMPTS),
    "rar2": Shipped(rephrase_and_respond.two_step_rephrase_and_respond, rephrase_and_respond.PROMPTS),
    "s2a": Shipped(system2_attention.system2_attention, system2_attention.PROMPTS),
    "bsm": Shipped(branch_solve_merge.branch_solve_merge, branch_solve_merge.PROMPTS, branch_solve_merge.Options),
}


def load_method(section: Named) -> Method:
    """The method that a recipe names, its prompt set and options bound.

    Raises UserError for an unknown name, prompt set or option, and for one's own that is no function.
    """
    if ":" in section.name:
        return _own(section)
    if section.name not in METHODS:
        raise UserError(
            f"no method {section.name}: shipped are {', '.join(METHODS)}; your own is my_module:my_function"
        )
    shipped = METHODS[section.name]
    options = parse(shipped.options, section.options, where=f"method {section.name}")
    # A method without wording of its own takes any known name: a recipe may change its method and keep the rest.
    known = shipped.prompt_sets or {name: None for other in METHODS.values() for name in other.prompt_sets}
    if options.prompts not in known:
        raise UserError(f"method {section.name} has no prompt set {options.prompts}: {', '.join(known)}")
    if not shipped.prompt_sets:
        return cast(Method, shipped.function)
    prompts = shipped.prompt_sets[options.prompts]
    return partial(shipped.function, prompts=prompts, **options.model_dump(exclude={"prompts"}))


def _own(section: Named) -> Method:
    function = import_object(section.name)
    if not callable(function):
        raise UserError(f"method {section.name} is no function: write an async one of (prompt, generate)")
    return partial(function, **section.options) if section.options else cast(Method, function)
