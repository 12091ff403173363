"""What an export has to be: what transformers and peft write themselves, with the whole model in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2d_ray.data.files import read_json


def weights(folder: Path) -> dict[str, Any]:
    """Name → tensor, of all files of a model."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def by_transformers(base: Path, values: Mapping[str, Any], folder: Path) -> Path:
    """The base model with these values for its parameters, as transformers saves it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    unknown = model.load_state_dict(values, strict=False).unexpected_keys
    assert not unknown
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def by_peft(base: Path, adapter: Path, folder: Path) -> Path:
    """The base model with the adapter merged into it by peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(folder)
    return folder


def assert_same(found: Path, expected: Path) -> None:
    """The same tensors bit for bit under the same names, and the same configurations."""
    import torch

    there, wanted = weights(found), weights(expected)
    assert there.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert there[name].dtype == tensor.dtype == torch.bfloat16, name
        assert torch.equal(there[name], tensor), name
    assert read_json(found / "config.json") == read_json(expected / "config.json")
    settings, usual = (read_json(folder / "generation_config.json") for folder in (found, expected))
    # What ends a turn by the chat template, here the tokenizer's own end, ends a generation too.
    found_ends, ends, end = settings.pop("eos_token_id"), usual.pop("eos_token_id"), ends_with(found)
    assert settings == usual
    assert found_ends == (ends if end in as_list(ends) else [*as_list(ends), end])


def ends_with(model: Path) -> int:
    """The token that ends a text by the model's tokenizer."""
    from transformers import AutoTokenizer

    return int(AutoTokenizer.from_pretrained(model).eos_token_id)


def as_list(ends: Any) -> list[int]:
    return ends if isinstance(ends, list) else [ends]
