"""The DeepSpeed configuration of a recipe's training section."""

from typing import Any

from s2d_ray.config import Train


def deepspeed_config(train: Train) -> dict[str, Any]:
    """What `deepspeed.initialize` takes; sizes in examples, optimizer and schedule are given apart."""
    micro = min(train.micro_batch_size, train.batch_size // train.workers)
    return {
        "train_batch_size": train.batch_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": train.batch_size // train.workers // micro,
        "gradient_clipping": train.gradient_clipping,
        "zero_optimization": {
            "stage": train.zero_stage,
            # Training steps are short; overlapping communication only costs memory on few workers.
            "overlap_comm": False,
            # Also gathers the weights that were never trained when ZeRO-3 exports the model.
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "bf16": {"enabled": train.dtype == "bfloat16"},
        # AdamW from torch: DeepSpeed's own would compile C++ when a worker starts.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
