"""Time that a GPU computes, and what it and its node have: arithmetic on counted tokens, nothing measured here.

A forward pass takes 2 FLOPs per parameter and token and a backward pass 4 (Kaplan et al. 2020, arXiv 2001.08361, table
1), or 2 where the weights are frozen; gradient checkpointing takes the forward pass a second time.
"""

from dataclasses import dataclass

from s2d_ray.errors import UserError

GIB = 2**30
USABLE = 0.9
"""Of a GPU's memory in training. CUDA's context, NCCL's buffers and what the allocator cannot use take the rest: an
assumption."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at work on this model."""

    tokens_per_second: float
    """Generated, with as many requests in flight as it takes."""
    teraflops: float = 400
    """Sustained in training and in reading prompts, bf16. An H100's peak is 989, of which 40 % is usual."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with GPUs, one like the other. The defaults are modest for one of eight H100."""

    gpus: int = 8
    gpu_memory_gib: float = 80
    network_gbit: float = 400
    """To the other nodes, in each direction, for all of its GPUs together."""
    nvlink_gbyte: float = 300
    """Between its GPUs, in GB a second and direction. An H100's links have 450, of which two thirds are usual."""
    memory_gib: float = 1024
    """Of its CPUs."""
    disk_gib: float = 2000
    """Where caches and temporary files are."""

    @property
    def usable_gib(self) -> float:
        """Of one GPU, in training."""
        return USABLE * self.gpu_memory_gib


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


def training_seconds(tokens: float, parameters: float, lora: bool, checkpointing: bool, teraflops: float) -> float:
    """GPU-seconds of computing for so many tokens of prompts and targets."""
    flops = (4 if lora else 6) + (2 if checkpointing else 0)
    return flops * parameters * tokens / (teraflops * 1e12)
