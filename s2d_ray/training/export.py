"""From training state to folders that transformers, peft and vLLM load as they are."""

from pathlib import Path
from typing import Any

import deepspeed
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from s2d_ray.recipes.sections import Train

ADAPTER = "adapter"


def export(engine: Any, base: Path, tokenizer: Any, settings: Train, target: Path, rank: int) -> None:
    """Write the trained model to `target` (bf16 safetensors) and its adapter, if any, to `target/adapter`.

    All workers take part, since each may hold a part of the weights; rank 0 writes.
    """
    model = engine.module
    state = _gathered(model, settings.zero_stage)
    if rank != 0:
        return
    if settings.lora is not None:
        _save_adapter(model, state, base, target / ADAPTER)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        merged = PeftModel.from_pretrained(plain, target / ADAPTER).merge_and_unload()
        merged.to(torch.bfloat16).save_pretrained(target)
    else:
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        plain.load_state_dict(state, strict=False)
        plain.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _gathered(model: Any, zero_stage: int) -> dict[str, torch.Tensor]:
    """Name → full value of every trained parameter, one gathered at a time."""
    state: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with deepspeed.zero.GatheredParameters([parameter], enabled=zero_stage == 3):
                state[name] = parameter.detach().to("cpu", torch.float32, copy=True)
    return state


def _save_adapter(model: Any, state: dict[str, torch.Tensor], base: Path, folder: Path) -> None:
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder, state_dict=state)
