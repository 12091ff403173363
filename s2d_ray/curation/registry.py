"""The registry of curation rules. A new one is a file beside this and a line in `RULES`."""

from collections.abc import Mapping, Sequence

from s2d_ray.curation.consistency import Consistency
from s2d_ray.curation.majority import Majority
from s2d_ray.curation.opinion_removed import OpinionRemoved
from s2d_ray.curation.rule import Rule
from s2d_ray.curation.traces import Shortened, Shortest
from s2d_ray.curation.unfiltered import Unfiltered
from s2d_ray.curation.universal import Universal
from s2d_ray.errors import UserError
from s2d_ray.imports import import_class
from s2d_ray.recipes.sections import FurtherTarget
from s2d_ray.recipes.strict import Named, parse

RULES: Mapping[str, type[Rule]] = {
    "majority": Majority,
    "universal": Universal,
    "consistency": Consistency,
    "unfiltered": Unfiltered,
    "opinion_removed": OpinionRemoved,
}
TARGETS: Mapping[FurtherTarget, Sequence[Rule]] = {
    "answer": (),
    "shortest": (Shortest(),),
    "shortened": (Shortened(),),
    "internalised": (Shortest(),),
}
"""Target of a recipe → the rules that follow the chosen ones to make it."""


def load_rules(sections: Sequence[Named]) -> list[Rule]:
    """The rules of a recipe, in order.

    Raises UserError for an unknown name or option, a class of another kind, and where the last one keeps no target.
    """
    rules = [_load(section) for section in sections]
    if not rules[-1].chooses:
        raise UserError(f"rule {rules[-1].name} keeps no target: put one after it that does, such as majority")
    return rules


def _load(section: Named) -> Rule:
    rule: type[Rule]
    if ":" in section.name:
        rule = import_class(section.name, Rule)
    elif section.name in RULES:
        rule = RULES[section.name]
    else:
        raise UserError(f"no curation rule {section.name}: shipped are {', '.join(RULES)}")
    return parse(rule, section.options, where=f"rule {section.name}")
