"""The DeepSpeed configuration of a recipe's training section."""

from typing import Any

from s2d_ray.recipes.recipe import merged
from s2d_ray.recipes.sections import Train


def deepspeed_config(train: Train, workers: int, gpu: bool) -> dict[str, Any]:
    """What `deepspeed.initialize` takes on so many workers, of a GPU each or not; the optimizer is given apart."""
    ours = {
        # DeepSpeed only counts: how many micro-batches a step has and what is in them is the loop's affair.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.gradient_clipping,
        "zero_optimization": {
            "stage": train.zero_stage,
            # Gradients are exchanged while more are computed; without streams and peers that only costs memory.
            "overlap_comm": gpu and workers > 1,
            **_offload(train),
        },
        "bf16": {"enabled": train.dtype == "bfloat16"},
        "fp16": {"enabled": train.dtype == "float16"},
        # AdamW from torch: DeepSpeed's own would compile C++ when a worker starts.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    return merged(ours, train.extra)


def _offload(train: Train) -> dict[str, Any]:
    to_cpu = {"device": "cpu", "pin_memory": True}
    return {
        "none": {},
        "optimizer": {"offload_optimizer": to_cpu},
        "parameters": {"offload_optimizer": to_cpu, "offload_param": to_cpu},
    }[train.offload]
