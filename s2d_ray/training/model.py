"""The model that is trained: its weights, how it computes, and the adapters that it may be given."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from s2d_ray.errors import UserError
from s2d_ray.recipes.sections import Lora, Train
from s2d_ray.training.job import TrainJob
from s2d_ray.training.optimizer import bitsandbytes


def load_model(job: TrainJob) -> Any:
    """The model of a training, with adapters if it has some.

    Raises UserError where it cannot be trained as the settings say.
    """
    settings = job.train
    try:
        model = AutoModelForCausalLM.from_pretrained(
            job.model,
            dtype=getattr(torch, settings.dtype),
            attn_implementation=None if settings.attention == "auto" else settings.attention,
            quantization_config=_quantization(settings),
            use_safetensors=True,
            trust_remote_code=job.trust_remote_code,
        )
    except (ImportError, ValueError) as error:
        if settings.attention == "auto":
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"train.attention {settings.attention} cannot be had here: {reason}") from error
    check_packable(model, settings)
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model)
    return adapted(model, settings.lora, job.seed)


def _checkpoint_gradients(model: Any) -> None:
    model.activation_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        # Layers only do it in training. What is in them stays as it was loaded: the model's own dropout is off.
        if hasattr(module, "gradient_checkpointing"):
            module.training = True


def _quantization(settings: Train) -> BitsAndBytesConfig | None:
    """How the frozen weights are held; None for as they are."""
    if settings.lora is None or settings.lora.quantize is None:
        return None
    bitsandbytes("train.lora.quantize")
    dtype = getattr(torch, settings.dtype)
    # Stored under the name of the model's own format, which DeepSpeed asks of every parameter.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,
    )


def check_packable(model: Any, settings: Train) -> None:
    """Raises UserError for a model whose packed examples would see each other: one with recurrent layers.

    Attention keeps them apart by their positions, with a mask (eager, SDPA) or by their lengths (flash attention).
    """
    if model._is_stateful and (settings.micro_batch_size > 1 or settings.micro_batch_tokens is not None):
        raise UserError(
            f"{type(model).__name__} has recurrent layers, which see all of a row: set train.micro_batch_size=1 "
            "and no train.micro_batch_tokens"
        )


def adapted(model: Any, lora: Lora | None, seed: int) -> Any:
    """The model with fresh adapters on the layers that the settings name, or as it is.

    Raises UserError where it has no such layers.
    """
    if lora is None:
        return model
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type="CAUSAL_LM",
    )
    try:
        # In the model's own number format: DeepSpeed keeps the float32 copy that the optimizer steps on.
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(f"train.lora.targets {lora.targets}: {' '.join(str(error).split())}") from error
