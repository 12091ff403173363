"""The model as the training section wants it: how it computes, what is adapted, and what cannot be had."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.errors import UserError
from tests.training.trial import recipe

# Of peft, about how it asks transformers.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default:`is_gradient_checkpointing` is dep:FutureWarning")]


def load(folder: Path, **train: Any) -> Any:
    from s2d_ray.training.job import TrainJob
    from s2d_ray.training.model import load_model

    settings = recipe(folder, **{"dtype": "float32"} | train).train
    return load_model(TrainJob(settings, 0, folder, False, [], folder / "unused"))


def gradients(model: Any) -> tuple[dict[str, Any], int]:
    """Of a loss on some tokens; and how often the first layer was computed."""
    import torch

    calls: list[int] = []
    projection = next(module for name, module in model.named_modules() if name.endswith("layers.0.mlp.up_proj"))
    projection.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(0)
    model(input_ids=torch.arange(20, 60)[None], use_cache=False).logits.logsumexp(-1).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, len(calls)


@pytest.mark.parametrize("lora", [None, {"rank": 2}, {"rank": 2, "dropout": 0.5}])
def test_a_layer_is_computed_again_on_the_way_back_and_the_gradients_are_the_same(lora: Any, tiny_model: Path) -> None:
    import torch

    kept, once = gradients(load(tiny_model, lora=lora))
    anew, twice = gradients(load(tiny_model, lora=lora, gradient_checkpointing=True))
    assert (once, twice) == (1, 2)
    assert any(gradient.norm() > 0 for gradient in kept.values())
    torch.testing.assert_close(anew, kept)


@pytest.mark.parametrize(("attention", "found"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_attention_is_computed_as_the_recipe_says(attention: str, found: str, tiny_model: Path) -> None:
    model = load(tiny_model, attention=attention, lora=None)
    assert model.config._attn_implementation == found


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_flash_attention_that_is_not_installed_is_refused_in_one_line(tiny_model: Path) -> None:
    with pytest.raises(
        UserError, match=r"^train.attention flash_attention_2 cannot be had here: .*installed.$"
    ) as told:
        load(tiny_model, attention="flash_attention_2", dtype="bfloat16")
    assert "\n" not in str(told.value)


def test_adapters_are_on_the_layers_that_the_recipe_names(tiny_model: Path) -> None:
    def adapted(**lora: Any) -> set[str]:
        names = (name for name, p in load(tiny_model, lora=lora).named_parameters() if p.requires_grad)
        return {name.split(".lora_")[0].split(".")[-1] for name in names}

    attention, mlp = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}
    assert adapted() == attention | mlp
    assert adapted(targets=["q_proj", "v_proj"]) == {"q_proj", "v_proj"}


def test_adapters_on_layers_that_there_are_none_of_are_refused_in_one_line(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"^train.lora.targets \('query', 'value'\): .*query.*") as told:
        load(tiny_model, lora={"targets": ["query", "value"]})
    assert "\n" not in str(told.value)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_what_needs_bitsandbytes_is_refused_without_it(tiny_model: Path) -> None:
    from s2d_ray.training.optimizer import make_adam

    with pytest.raises(UserError, match=r"^train.lora.quantize needs the package bitsandbytes"):
        load(tiny_model, lora={"quantize": "4bit"})
    with pytest.raises(UserError, match=r"^train.optimizer adamw_8bit needs the package bitsandbytes"):
        make_adam(load(tiny_model), recipe(tiny_model, optimizer="adamw_8bit").train)
