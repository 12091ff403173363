import pytest

from s2d_ray.errors import UserError
from s2d_ray.methods.registry import METHODS, load_method
from s2d_ray.recipes.strict import Named


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_both_prompt_sets(name: str) -> None:
    assert set(METHODS[name].prompt_sets) == ({"paper", "few_shot"} if name != "direct" else set())
    for prompts in METHODS[name].prompt_sets:
        assert callable(load_method(Named(name=name, prompts=prompts)))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Named(name="tot"), "shipped are direct, cot, rar1, rar2, s2a, bsm"),
        (Named(name="cot", prompts="zero"), "no prompt set zero: paper, few_shot"),
        (Named(name="bsm", both_order=True), "did you mean both_orders"),
        (Named(name="bsm", merge="mean"), "merge"),
        (Named(name="cot", merge="sum"), "unknown key merge"),
    ],
)
def test_unknown_choices_name_the_known_ones(section: Named, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_method(section)
