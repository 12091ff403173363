from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import pytest

from s2d_ray.errors import UserError
from s2d_ray.methods.registry import METHODS, load_method
from s2d_ray.recipes.strict import Named

PROMPT_SETS = {
    "direct": [],
    "cot": ["zero_shot", "few_shot"],
    "rar1": ["paper", "few_shot_cot"],
    "rar2": ["paper", "few_shot_cot"],
    "s2a": ["zero_shot", "few_shot"],
    "bsm": ["zero_shot", "few_shot"],
    "think": [],
}


def examples(value: Any) -> int:
    """Worked examples in a prompt set, whichever call shows them."""
    if not is_dataclass(value):
        return 0
    parts = {field.name: getattr(value, field.name) for field in fields(value)}
    return sum(len(part) if name == "examples" else examples(part) for name, part in parts.items())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_prompt_set_without_worked_examples_and_one_with_them(name: str) -> None:
    prompt_sets = METHODS[name].prompt_sets
    assert list(prompt_sets) == PROMPT_SETS[name]
    for prompts, wording in prompt_sets.items():
        loaded = load_method(Named(name=name, prompts=prompts))
        assert isinstance(loaded, partial)
        assert loaded.keywords["prompts"] is wording
        assert (examples(wording) > 0) == prompts.startswith("few_shot")


@pytest.mark.parametrize("name", [name for name in METHODS if PROMPT_SETS[name]])
def test_a_method_asks_without_worked_examples_unless_told_otherwise(name: str) -> None:
    loaded = load_method(Named(name=name))
    assert isinstance(loaded, partial)
    assert loaded.keywords["prompts"] is METHODS[name].prompt_sets[PROMPT_SETS[name][0]]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Named(name="tot"), "shipped are direct, cot, rar1, rar2, s2a, bsm, think"),
        (Named(name="cot", prompts="zero"), "no prompt set zero: zero_shot, few_shot"),
        (Named(name="s2a", prompts="paper"), "no prompt set paper: zero_shot, few_shot"),
        (Named(name="rar2", prompts="few_shot"), "no prompt set few_shot: paper, few_shot_cot"),
        (Named(name="bsm", both_order=True), "did you mean both_orders"),
        (Named(name="bsm", merge="mean"), "merge"),
        (Named(name="cot", merge="sum"), "unknown key merge"),
        (Named(name="cot", thinking_tokens=-1), "thinking_tokens"),
        (Named(name="think", thinking=False), "thinking"),
    ],
)
def test_unknown_choices_name_the_known_ones(section: Named, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_method(section)
