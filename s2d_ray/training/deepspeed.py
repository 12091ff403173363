"""The DeepSpeed configuration of a recipe's training section."""

from typing import Any

from s2d_ray.recipes.sections import Train
from s2d_ray.training.schedule import accumulation_steps


def deepspeed_config(train: Train, workers: int) -> dict[str, Any]:
    """What `deepspeed.initialize` takes on so many workers; the optimizer is given apart."""
    return {
        # DeepSpeed only counts: what a micro-batch holds is the loop's affair, and its size may differ by one.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation_steps(train.batch_size, workers, train.micro_batch_size),
        "gradient_clipping": train.gradient_clipping,
        "zero_optimization": {
            "stage": train.zero_stage,
            # Training steps are short; overlapping communication only costs memory on few workers.
            "overlap_comm": False,
            # Also gathers the weights that were never trained when ZeRO-3 exports the model.
            "stage3_gather_16bit_weights_on_model_save": True,
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


def _offload(train: Train) -> dict[str, Any]:
    to_cpu = {"device": "cpu", "pin_memory": True}
    return {
        "none": {},
        "optimizer": {"offload_optimizer": to_cpu},
        "parameters": {"offload_optimizer": to_cpu, "offload_param": to_cpu},
    }[train.offload]
