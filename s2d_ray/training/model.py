"""The model that is trained, and the adapters that it may be given."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from s2d_ray.recipes.sections import Lora


def adapted(model: Any, lora: Lora | None, seed: int) -> Any:
    """The model with fresh adapters on all its linear layers, or as it is."""
    if lora is None:
        return model
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    # In the model's own number format: DeepSpeed keeps the float32 copy that the optimizer steps on.
    return get_peft_model(model, config, autocast_adapter_dtype=False)
