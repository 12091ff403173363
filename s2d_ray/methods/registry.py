"""The registry of methods. A new one is a file beside this and a line in `METHODS`."""

from collections.abc import Mapping
from functools import partial
from inspect import isclass
from typing import Any, NamedTuple, cast

from s2d_ray.data.records import Prompt
from s2d_ray.errors import UserError
from s2d_ray.imports import import_object
from s2d_ray.methods import (
    branch_solve_merge,
    chain_of_thought,
    direct,
    rephrase_and_respond,
    system2_attention,
    thinking,
)
from s2d_ray.methods.method import GenerateFunction, Method, MethodOptions, PlainExamples
from s2d_ray.recipes.strict import Named, parse


class ShippedMethod(NamedTuple):
    """A method of the package: what runs, the wordings it may use, the first unless told otherwise, and its options."""

    function: Any
    prompt_sets: Mapping[str, Any] = {}
    options: type[MethodOptions] = MethodOptions


METHODS: Mapping[str, ShippedMethod] = {
    "direct": ShippedMethod(direct.direct, options=direct.DirectOptions),
    "cot": ShippedMethod(chain_of_thought.chain_of_thought, chain_of_thought.PROMPT_SETS),
    "rar1": ShippedMethod(rephrase_and_respond.rephrase_and_respond, rephrase_and_respond.PROMPT_SETS),
    "rar2": ShippedMethod(rephrase_and_respond.two_step_rephrase_and_respond, rephrase_and_respond.PROMPT_SETS),
    "s2a": ShippedMethod(system2_attention.system2_attention, system2_attention.PROMPT_SETS),
    "bsm": ShippedMethod(
        branch_solve_merge.branch_solve_merge,
        branch_solve_merge.PROMPT_SETS,
        branch_solve_merge.BranchSolveMergeOptions,
    ),
    "think": ShippedMethod(thinking.think, options=thinking.ThinkOptions),
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
    name = options.prompts or next(iter(known))
    if name not in known:
        raise UserError(f"method {section.name} has no prompt set {name}: {', '.join(known)}")
    return _told(_bound(shipped, options, name), options)


def _bound(shipped: ShippedMethod, options: MethodOptions, prompts: str) -> Method:
    """With its prompt set, where it has some, and with the options that are its own."""
    if isinstance(options, direct.DirectOptions):
        return _plainly(options)
    own = options.model_dump(exclude=set(MethodOptions.model_fields))
    given = own | ({"prompts": shipped.prompt_sets[prompts]} if shipped.prompt_sets else {})
    return partial(shipped.function, **given) if given else cast(Method, shipped.function)


def _told(method: Method, options: MethodOptions) -> Method:
    """The method with what its options say of every call, where they say something."""
    said = options.model_dump(include=set(MethodOptions.model_fields) - {"prompts"}, exclude_unset=True)
    return partial(_telling, method, said) if said else method


async def _telling(method: Method, said: Mapping[str, Any], prompt: Prompt, generate: GenerateFunction) -> str:
    """What a call says itself goes first."""
    return await method(prompt, partial(generate, **said))


def plain_examples(section: Named) -> PlainExamples:
    """The worked examples of a method's prompt set, as System 1 sees them; none where it has none."""
    shipped = METHODS.get(section.name)
    if shipped is None or not shipped.prompt_sets:
        return ()
    prompts = shipped.prompt_sets.get(section.options.get("prompts") or next(iter(shipped.prompt_sets)))
    return prompts.plain_examples if prompts else ()


def _plainly(options: direct.DirectOptions) -> Method:
    if options.examples_of is None:
        return direct.direct
    examples = plain_examples(Named(name=options.examples_of, prompts=options.prompts))
    if not examples:
        named = f"prompt set {options.prompts}" if options.prompts else "first prompt set"
        raise UserError(f"method {options.examples_of} has no worked examples in its {named}")
    return partial(direct.direct, examples=examples)


def in_one_order(section: Named) -> Named | None:
    """The same judge in one order of the responses, where the section judges in both; None elsewhere."""
    if section.name != "bsm" or not section.options.get("both_orders"):
        return None
    return Named(name=section.name, **{k: v for k, v in section.options.items() if k != "both_orders"})


def _own(section: Named) -> Method:
    function = import_object(section.name)
    if not callable(function) or isclass(function):
        raise UserError(f"method {section.name} is no function: write an async one of (prompt, generate)")
    return partial(function, **section.options) if section.options else cast(Method, function)
