"""The arms of an evaluation: their keys in every table, their order, and how a person reads them."""

from collections.abc import Iterable, Mapping
from typing import Literal

CoreArm = Literal["base", "teacher", "student"]
"""The model asked plainly, System 2 on that same model, and the model distilled from System 2's answers."""
LABELS: Mapping[CoreArm, str] = {"base": "System 1 (base)", "teacher": "System 2", "student": "Distilled System 1"}
"""Core arm → how a person reads it, in the order of tables."""

ARMS: Mapping[str, str] = {
    "system1": "System 1",
    "system2": "System 2",
    "distilled": "Distilled",
    "distilled_system1": "Distilled from System 1",
    "distilled_unfiltered": "Distilled, no curation",
}
"""Arm → how a report calls it, in the order of its tables. The last two are controls.

Further System 2 methods (`evaluate.also`) come after `system2`, as `system2_<name>`.
"""
CORE_ARMS = ("system1", "system2", "distilled")
CONTROLS = ("distilled_system1", "distilled_unfiltered")
_FURTHER = "system2_"


def further_arm(method: str) -> str:
    """The arm of a System 2 method beside the one that is distilled."""
    return f"{_FURTHER}{method}"


def is_further(arm: str) -> bool:
    """Whether the arm is one of `further_arm`."""
    return arm.startswith(_FURTHER)


def label(arm: str) -> str:
    """What a report calls an arm."""
    return ARMS[arm] if arm in ARMS else f"System 2 ({arm.removeprefix(_FURTHER)})"


def in_order(arms: Iterable[str]) -> list[str]:
    """Each of the arms once, in the order of the tables."""
    places = list(ARMS)
    return sorted(set(arms), key=lambda arm: (places.index(arm if arm in ARMS else "system2"), arm))
