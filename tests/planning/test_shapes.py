"""The shape of the model that is planned for."""

from pathlib import Path

import pytest
from safetensors import safe_open

from s2d_ray.errors import UserError
from s2d_ray.planning.shapes import PUBLISHED, Shape, shape_of
from s2d_ray.recipes.recipe import Recipe

LLAMA = PUBLISHED["meta-llama/Llama-2-70b"]


def recipe(model: str) -> Recipe:
    return Recipe.model_validate({"name": "mine", "model": model, "task": "prompts", "method": "s2a"})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_has_the_parameters_that_are_published(name: str) -> None:
    """But for norms and biases; small models use the embedding again as their output layer."""
    shape = PUBLISHED[name]
    embeddings = shape.hidden * shape.vocabulary * (1 if shape.parameters < 2e9 else 2)
    assert shape.layers * shape.layer_parameters + embeddings == pytest.approx(shape.parameters, rel=0.01)


def test_a_model_here_is_known_by_its_configuration(tiny_model: Path) -> None:
    found = shape_of(recipe(str(tiny_model)), None)
    with safe_open(tiny_model / "model.safetensors", framework="pt") as weights:
        stored = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert found == Shape(stored, 64, 2, 2, 1, 32, 128, 384)


def test_a_model_on_the_hub_that_is_published_needs_no_hub() -> None:
    assert shape_of(recipe("meta-llama/Llama-2-70b-chat-hf"), None) == LLAMA


def test_another_size_takes_the_shape_that_is_nearest(tiny_model: Path) -> None:
    nearly = shape_of(recipe(str(tiny_model)), 70)
    assert (nearly.parameters, nearly.hidden, nearly.layers, nearly.kv_heads) == (70e9, 8192, 80, 8)
    between = shape_of(recipe("no/such-model"), 30)
    assert 13e9 < between.layers * between.layer_parameters < 70e9
    assert 5120 < between.hidden < 8192
    assert between.layers * between.layer_parameters == pytest.approx(30e9, rel=0.1)


def test_a_model_out_of_reach_asks_for_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"configuration of model no/such-model is not to be had .* give --params-b"):
        shape_of(recipe("no/such-model"), None)
