"""Recipes from YAML: shipped ones by name, others by their file, with overrides.

Unknown keys are errors that name the nearest known key, and all checks run before an engine starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import parse

if TYPE_CHECKING:
    from s2d_ray.recipes.recipe import AnyRecipe, Recipe

SHIPPED = "s2d_ray.recipes.shipped"
Overrides = str | Sequence[str] | Mapping[str, Any]
"""`key=value`, one or several, as the command takes them; or key → value. Keys are dotted."""


def shipped_recipes() -> dict[str, str]:
    """Name → one-line description of every recipe in the package."""
    folder = resources.files(SHIPPED)
    names = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {name: str(_read_yaml(folder.joinpath(f"{name}.yaml").read_text(), name)["description"]) for name in names}


def load_recipe(name_or_path: str, overrides: Overrides = ()) -> AnyRecipe:
    """The recipe or mixture of a shipped name or YAML file, with `dotted.key=value` overrides applied.

    Raises UserError where there is no such recipe, it is no YAML mapping, a key is unknown (the nearest
    known one is named), or a value is out of range.
    """
    # Only here: with what recipes are checked by, a list of names would take three times as long.
    from s2d_ray.recipes.recipe import Mixture, Recipe

    path, folder = Path(name_or_path), Path()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"no recipe file {path}; shipped recipes: {', '.join(shipped_recipes())}")
        raw, folder = _read_yaml(_text(path), str(path)), path.parent
    else:
        if name_or_path not in shipped_recipes():
            near = get_close_matches(name_or_path, shipped_recipes(), 1)
            hint = f"did you mean {near[0]}?" if near else "`s2d recipes` lists them; a file must end in .yaml"
            raise UserError(f"no recipe named {name_or_path}: {hint}")
        raw = _read_yaml(resources.files(SHIPPED).joinpath(f"{name_or_path}.yaml").read_text(), name_or_path)
    _apply(raw, overrides)
    _read_chat_template(raw, folder)
    where = f"recipe {name_or_path}"
    return parse(Mixture, raw, where) if "parts" in raw else parse(Recipe, raw, where)


def load_single_recipe(name_or_path: str, overrides: Overrides = ()) -> Recipe:
    """As `load_recipe`, where a single task is needed: a mixture is refused."""
    return load_recipe(name_or_path, overrides).single()


def overridden(recipe: AnyRecipe, overrides: Overrides) -> AnyRecipe:
    """A recipe built in Python with `dotted.key=value` overrides applied. Raises UserError as `load_recipe` does."""
    if not overrides and recipe.chat_template is None:
        return recipe
    raw = recipe.model_dump(exclude_unset=True)
    _apply(raw, overrides)
    _read_chat_template(raw, Path())
    return parse(type(recipe), raw, f"recipe {recipe.name}")


def _read_chat_template(raw: dict[str, Any], folder: Path) -> None:
    """A file that `chat_template` names is read, so that no other machine needs it: beside the recipe's, or here."""
    named = raw.get("chat_template")
    if isinstance(named, str) and named.endswith(".jinja") and not any(sign in named for sign in "{\n"):
        found = next((path for path in (folder / named, Path(named)) if path.is_file()), None)
        if found is None:
            raise UserError(f"no chat template {named} in {folder.resolve()} or {Path().resolve()}")
        raw["chat_template"] = _text(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it in that encoding ({error.reason})") from error


def _read_yaml(text: str, where: str) -> dict[str, Any]:
    raw = _yaml_value(text, where)
    if not isinstance(raw, dict):
        raise UserError(f"{where} is not a YAML mapping of recipe keys")
    return raw


def _yaml_value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-01
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def _apply(raw: dict[str, Any], overrides: Overrides) -> None:
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            _put(raw, key, str(value) if isinstance(value, Path) else value, repr(key))
        return
    for override in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"override {override!r} is not of the form key=value, such as train.epochs=1")
        _put(raw, key, _yaml_value(text, f"the value of override {override!r}"), repr(override))


def _put(raw: dict[str, Any], key: str, value: object, override: str) -> None:
    *parents, last = key.split(".")
    section: Any = raw
    for parent in parents:
        inner = section.get(parent)
        if inner is None or (isinstance(inner, str) and parent in ("task", "method")):
            section[parent] = {} if inner is None else {"name": inner}
        elif not isinstance(inner, dict):
            raise UserError(f"override {override}: {parent} is a single value, not a section")
        section = section[parent]
    section[last] = value
