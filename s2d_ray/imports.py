"""Objects of the user's own, named `my_module:my_object` in a recipe."""

import sys
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any

from s2d_ray.errors import UserError


def import_object(reference: str) -> Any:
    """The object that `module:name` refers to; modules beside the caller's working folder are found.

    Raises UserError where the module or the name does not exist.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name or module_name.startswith("."):
        raise UserError(f"{reference} names no object: write my_module:my_object")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{reference}: no module {error.name}; it is looked for in {here} and the environment"
        ) from error
    if not hasattr(module, name):
        raise UserError(f"{reference}: module {module_name} has no {name}")
    return getattr(module, name)


def import_class(reference: str, base: type[Any]) -> Any:
    """The class that `module:name` refers to. Raises UserError unless it is derived from `base` and complete."""
    found = import_object(reference)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{reference} is no {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    if isabstract(found):
        raise UserError(f"{reference} is not complete: write the abstract methods of {base.__name__}")
    return found
