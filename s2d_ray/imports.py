"""Functions and classes of the user's own: named `my_module:my_object` in a recipe, or given as they are in Python."""

import inspect
import re
import sys
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

from s2d_ray.errors import UserError

_carried: dict[str, Any] = {}
"""Reference → what no other process can import. It comes to this one with whatever is pickled with it."""


def import_object(reference: str) -> Any:
    """The object that `module:name` refers to; modules beside the caller's working folder are found.

    Raises UserError where the module or the name does not exist.
    """
    if reference in _carried:
        return _carried[reference]
    module_name, _, name = reference.partition(":")
    if not module_name or not name or module_name.startswith("."):
        raise UserError(f"{reference} names no object: write my_module:my_object")
    if "@" in name:
        raise UserError(f"{reference} was made in another Python session: give it again, or write it in a module")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{reference}: no module {error.name}; it is looked for in {here} and the environment"
        ) from error
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            raise UserError(f"{reference}: module {module_name} has no {name}")
        found = getattr(found, attribute)
    return found


def import_class(reference: str, base: type[Any]) -> Any:
    """The class that `module:name` refers to. Raises UserError unless it is derived from `base` and complete."""
    found = import_object(reference)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{reference} is no {base.__name__}: derive it from {base.__module__}.{base.__name__}")
    if inspect.isabstract(found):
        raise UserError(f"{reference} is not complete: write the abstract methods of {base.__name__}")
    return found


def reference_of(definition: Any) -> str:
    """How a recipe names a function or class: `module:name`, by which `import_object` finds it.

    One that other processes cannot import (of a notebook or a script, or local to a function) has a digest of what it
    says behind an `@`, so that another one of the same name is told from it.
    """
    reference = f"{definition.__module__}:{definition.__qualname__}"
    if not _importable(definition):
        digest = blake2b(_content(definition).encode(), digest_size=8).hexdigest()
        reference = f"{reference}@{digest}"
        carry(reference, definition)
    return reference


def carried(reference: str) -> Any:
    """What has to be pickled with a reference, for it to be found in another process; None where it is imported."""
    return _carried.get(reference)


def carry(reference: str, definition: Any) -> None:
    """Let `import_object` find what came with a reference."""
    _carried[reference] = definition


def _importable(definition: Any) -> bool:
    found: Any = sys.modules.get(definition.__module__)
    for attribute in definition.__qualname__.split("."):
        found = getattr(found, attribute, None)
    return found is definition and definition.__module__ != "__main__"


def _content(definition: Any) -> str:
    """The source, and the values that a function has from where it was made; the same in every process."""
    parts = [_source(definition)]
    if inspect.isfunction(definition):
        closure = [cell.cell_contents for cell in definition.__closure__ or ()]
        parts += [_written(value) for value in (definition.__defaults__, definition.__kwdefaults__, closure)]
    return "\n".join(parts)


def _source(definition: Any) -> str:
    try:
        return inspect.getsource(definition)
    except (OSError, TypeError):
        # Without a file: what `python -c` runs, and, before Python 3.13, a notebook's classes.
        if inspect.isfunction(definition):
            return _bytecode(definition.__code__)
    members = {name: member for name, member in vars(definition).items() if not name.startswith("__")}
    functions = {name: getattr(m, "fget", None) or getattr(m, "__func__", m) for name, m in members.items()}
    told = [f"{n} {_source(f) if inspect.isfunction(f) else _written(f)}" for n, f in sorted(functions.items())]
    return "\n".join([*told, _written(getattr(definition, "model_fields", None))])


def _bytecode(code: CodeType) -> str:
    constants = [
        _bytecode(constant) if isinstance(constant, CodeType) else repr(constant) for constant in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _written(value: object) -> str:
    """As Python writes it, without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
