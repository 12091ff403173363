"""The arms, in an evaluation and in a live experiment alike: their names, their order, and how a person reads them."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from s2d_ray.errors import UserError

CoreArm = Literal["base", "teacher", "student"]
"""`base`: the model, asked plainly. `teacher`: System 2 on the base. `student`: the distilled model, asked plainly."""
CORE_ARMS: tuple[CoreArm, ...] = get_args(CoreArm)
LABELS: Mapping[CoreArm, str] = {
    "base": "System 1 (base)",
    "teacher": "System 2",
    "student": "Distilled System 1",
}
TARGETS: Mapping[str, str] = {
    "student_answer": "Distilled, answer alone",
    "student_shortest": "Distilled, shortest trace",
    "student_shortened": "Distilled, shortened trace",
    "student_internalised": "Distilled, internalised",
}
"""Students beside the distilled one, on other targets than its own: what less reasoning than System 2's reaches."""
CONTROLS: Mapping[str, str] = {
    "student_of_base": "Distilled from System 1",
    "student_uncurated": "Distilled, no curation",
}
"""Students that show what the teacher and what curation are worth: of System 1's own votes, and of the first readable
answers."""
ARMS: Mapping[str, str] = dict(
    [
        ("base", LABELS["base"]),
        ("base_few_shot", "System 1, few-shot"),
        *LABELS.items(),
        *TARGETS.items(),
        *CONTROLS.items(),
    ]
)
"""Arm → how a person reads it, in the order of tables.

`base_few_shot` is System 1 after the worked examples that System 2 is shown, where it is shown some: what they are
worth without the work between. Further System 2 methods (`evaluate.also`) come after `teacher`, as `teacher_<name>`.
"""
_FURTHER = "teacher_"
_TARGETED = "student_"
_REPEATED = "@"


def further_arm(method: str) -> str:
    """The arm of a System 2 method beside the one that is distilled."""
    return f"{_FURTHER}{method}"


def is_further(arm: str) -> bool:
    """Whether the arm is one of `further_arm`."""
    return arm.startswith(_FURTHER)


def target_arm(target: str) -> str:
    """The arm of a student that is trained on another target."""
    return f"{_TARGETED}{target}"


def target_of(arm: str) -> str | None:
    """What such an arm is trained on; None for every other one."""
    return arm.removeprefix(_TARGETED) if arm in TARGETS else None


def repeated(arm: str, number: int) -> str:
    """An arm's training of that number, each with another seed; the first is the arm itself."""
    return arm if number == 1 else f"{arm}{_REPEATED}{number}"


def training_of(arm: str) -> tuple[str, int]:
    """The arm, and which of its trainings: what `repeated` made one name of."""
    name, _, number = arm.partition(_REPEATED)
    return name, int(number or 1)


def repeats_another(arm: str) -> bool:
    """Whether it is a further training of an arm, which reports are not about."""
    return training_of(arm)[1] > 1


def label(arm: str) -> str:
    """How a person reads an arm."""
    name, number = training_of(arm)
    if number > 1:
        return f"{label(name)}, training {number}"
    return ARMS[arm] if arm in ARMS else f"System 2 ({arm.removeprefix(_FURTHER)})"


def in_order(arms: Iterable[str]) -> list[str]:
    """Each of the arms once, in the order of tables."""
    places = list(ARMS)
    return sorted(set(arms), key=lambda arm: (places.index(arm if arm in ARMS else "teacher"), arm))


def refuse_former(arms: Iterable[str], where: object, recipe: str) -> None:
    """Raises UserError where the arms of an evaluation bear names that are none of today's."""
    if former := [arm for arm in arms if arm not in ARMS and not is_further(arm)]:
        raise UserError(
            f"{where} has arms that an earlier version named ({', '.join(former)}): rename its controls, if there are "
            "any (distilled_system1 to student_of_base, distilled_unfiltered to student_uncurated, in controls/), then "
            f"`s2d evaluate {recipe} --overwrite` and `s2d report {recipe}`, as the run was started"
        )
