"""Strict models, choices by name, and validation errors that say in one line what to change."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from inspect import isclass, isfunction
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from s2d_ray.errors import UserError
from s2d_ray.imports import carried, carry, reference_of

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configuration: frozen, documented under each field, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Key of an older version → what it is called now."""


class Named(BaseModel):
    """A choice by name with the options of whatever bears that name, which checks them.

    In Python a function, a class, or an instance of a task or rule may stand for the section or for its name. Pickled
    as Ray does it, by cloudpickle, a section takes along what no other process can import.
    """

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    name: str
    """A shipped name, or `my_module:my_object` for one of your own."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, Named):
            return given
        section = dict(given) if isinstance(given, Mapping) else {"name": given}
        name = section.get("name")
        if isinstance(name, Strict):
            return name.model_dump(mode="json", exclude_unset=True) | section | {"name": reference_of(type(name))}
        return section | {"name": reference_of(name)} if isfunction(name) or isclass(name) else section

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "carried": carried(self.name)}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if state["carried"] is not None:
            carry(self.name, state["carried"])

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def is_none(value: object) -> bool:
    """For `exclude_if` of a setting that came when results had been made already: unset, they are still known again."""
    return value is None


def parse(model: type[M], raw: Mapping[str, Any], where: str) -> M:
    """`raw` checked against `model`. Raises UserError, one line, naming the field and what is wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(model, error)}") from error


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            problems.append(_unknown_key(model, item["loc"]))
            continue
        key, message = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        problems.append(f"{key}: {message}" if key else message)
    return "; ".join(problems)


def _unknown_key(model: type[BaseModel], loc: Sequence[int | str]) -> str:
    *sections, key = map(str, loc)
    section = _model_at(model, sections)
    path = ".".join((*sections, key))
    if issubclass(section, Strict) and key in section.renamed_keys:
        return f"{path} is now {'.'.join((*sections, section.renamed_keys[key]))}"
    known = list(section.model_fields)
    near = get_close_matches(key, known, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {path}: {hint}"


def _model_at(model: type[BaseModel], sections: Sequence[str]) -> type[BaseModel]:
    for section in sections:
        inner = model.model_fields.get(section)
        candidates = [] if inner is None else [inner.annotation, *getattr(inner.annotation, "__args__", ())]
        for annotation in candidates:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
                break
    return model
