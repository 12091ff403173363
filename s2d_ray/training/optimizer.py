"""AdamW: torch's own, or that of bitsandbytes, whose two moments take a byte each."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from s2d_ray.errors import UserError
from s2d_ray.recipes.sections import Train

MOMENTS = {"exp_avg": "1", "exp_avg_sq": "2"}
"""What torch calls a moment → the number that it has in bitsandbytes."""
BLOCK = 256
"""Values that share a scale in bitsandbytes."""


def make_adam(model: Any, settings: Train) -> torch.optim.Optimizer:
    """For the model's parameters that are trained. Raises UserError where bitsandbytes is needed and missing."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw_8bit":
        made: torch.optim.Optimizer = bitsandbytes("train.optimizer adamw_8bit").optim.AdamW8bit(trained, **options)
        return made
    # One kernel for all that is done to a parameter, on a GPU as on a CPU: there it spares DeepSpeed's own, which would
    # be compiled when a worker starts.
    return torch.optim.AdamW(trained, fused=True, **options)


def bitsandbytes(needed_by: str) -> Any:
    """The package. Raises UserError where it is not installed."""
    try:
        return import_module("bitsandbytes")
    except ImportError as error:
        raise UserError(f"{needed_by} needs the package bitsandbytes, which is not installed") from error


@contextmanager
def float_moments(engine: Any, adam: torch.optim.Optimizer) -> Iterator[None]:
    """While the block runs Adam's moments are as torch has them, whole and in float32; what it puts there stays.

    They must exist. With 8 bits a value that takes 8 bytes per parameter of this worker for that time.
    """
    if isinstance(adam, torch.optim.AdamW):
        yield
        return
    packed = dict(adam.state)
    for parameter, state in packed.items():
        moments = {name: _unpacked(state, number) for name, number in MOMENTS.items()}
        adam.state[parameter] = {"step": torch.tensor(state["step"]), **moments}
    _link(engine)
    yield
    for parameter, state in packed.items():
        found = adam.state[parameter]
        state["step"] = int(found["step"])
        for name, number in MOMENTS.items():
            _pack(found[name], state, number)
        adam.state[parameter] = state


def _link(engine: Any) -> None:
    """Show DeepSpeed the moments anew where it has kept parts of them: with ZeRO-1 and 2."""
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _unpacked(state: dict[str, Any], number: str) -> torch.Tensor:
    kept: torch.Tensor = state[f"state{number}"]
    if kept.dtype == torch.float32:  # Few values are not worth it to bitsandbytes.
        return kept
    from bitsandbytes.functional import dequantize_blockwise

    code, scales = state[f"qmap{number}"], state[f"absmax{number}"]
    whole: torch.Tensor = dequantize_blockwise(kept, absmax=scales, code=code, blocksize=BLOCK)
    return whole


def _pack(whole: torch.Tensor, state: dict[str, Any], number: str) -> None:
    kept: torch.Tensor = state[f"state{number}"]
    if kept.dtype == torch.float32:
        return
    from bitsandbytes.functional import quantize_blockwise

    code = state[f"qmap{number}"]
    quantized, how = quantize_blockwise(whole, code=code, blocksize=BLOCK)
    kept.copy_(quantized)
    state[f"absmax{number}"].copy_(how.absmax)
