"""Objects of the user's own, named `my_module:my_object` in a recipe."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from s2d_ray.errors import UserError


def import_object(reference: str) -> Any:
    """The object that `module:name` refers to; modules beside the caller's working folder are found.

    Raises UserError where the module or the name does not exist.
    """
    module_name, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{reference}: no module {error.name}; it is looked for in {here} and the environment"
        ) from error
    except AttributeError as error:
        raise UserError(f"{reference}: module {module_name} has no {name}") from error
