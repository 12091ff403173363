"""GPUs and GPU time of a model of another size: arithmetic on counted tokens, nothing measured here.

A forward pass takes 2 FLOPs per parameter and token, a backward pass 4, or 2 where the weights are frozen.
"""

from dataclasses import dataclass
from math import ceil, log2

from s2d_ray.errors import UserError
from s2d_ray.recipes.sections import Train

MODEL_SHARE = 0.6
"""Of a GPU's memory for weights, gradients and optimizer state; the KV cache or the activations take the rest."""
BF16_BYTES = 2
SHARDED_BYTES = {0: 0, 1: 12, 2: 14, 3: 16}
"""Per parameter and ZeRO stage, of the 16 bytes that training all of a model with Adam takes: what is shared out."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at work on this model."""

    tokens_per_second: float
    """Generated, with as many requests in flight as it takes."""
    teraflops: float = 400
    """Sustained in training and in reading prompts, bf16. An H100's peak is 989, of which 40 % is usual."""
    memory_gib: float = 80

    @property
    def room(self) -> float:
        """Bytes for the model."""
        return MODEL_SHARE * self.memory_gib * 2**30


def generating_seconds(read: float, generated: float, parameters: float, gpu: Gpu) -> float:
    """GPU-seconds for so many tokens: `read` ones that the prefix cache lacks, and `generated` ones."""
    return generated / gpu.tokens_per_second + 2 * parameters * read / (gpu.teraflops * 1e12)


def generation_speed(read: float, generated: float, gpu_seconds: float, parameters: float, teraflops: float) -> float:
    """Tokens per second and GPU that generating alone must have made, where all took `gpu_seconds`.

    Raises UserError where reading alone would have taken that long.
    """
    left = gpu_seconds - 2 * parameters * read / (teraflops * 1e12)
    if left <= 0:
        raise UserError(f"prompts were read faster than {teraflops:g} teraflops allow: give a higher --teraflops")
    return generated / left


def training_seconds(tokens: float, parameters: float, lora: bool, gpu: Gpu) -> float:
    """GPU-seconds for so many tokens of prompts and targets."""
    return (4 if lora else 6) * parameters * tokens / (gpu.teraflops * 1e12)


def engine_gpus(parameters: float, gpu: Gpu) -> int:
    """GPUs that one copy of the model in bf16 is split over: a power of two, so that it divides attention heads."""
    return 1 << max(0, ceil(log2(BF16_BYTES * parameters / gpu.room)))


def training_gpus(parameters: float, train: Train, gpu: Gpu) -> int | None:
    """Fewest GPUs whose memory the training fits in; None where each would need too much whatever their number."""
    if train.lora is not None:
        # Adapters are less than a hundredth of the weights.
        sharded, whole = (BF16_BYTES, 0) if train.zero_stage == 3 else (0, BF16_BYTES)
    else:
        sharded = SHARDED_BYTES[train.zero_stage]
        whole = 16 - sharded
    left = gpu.room - whole * parameters
    return max(1, ceil(sharded * parameters / left)) if left > 0 else None
