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
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw_8bit":
        optimizers = bitsandbytes("train.optimizer adamw_8bit").optim
        made: torch.optim.Optimizer = optimizers.AdamW8bit(trained, lr=rate, weight_decay=decay)
        return made
    # One kernel for all that is done to a parameter, on a GPU as on a CPU: there it spares DeepSpeed's own, which would
    # be compiled when a worker starts.
    return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=True)


def bitsandbytes(needed_by: str) -> Any:
    """The package. Raises UserError where it is not installed."""
    try:
        return import_module("bitsandbytes")
    except ImportError as error:
        raise UserError(f"{needed_by} needs the package bitsandbytes, which is not installed") from error


@contextmanager
def float_moments(engine: Any, adam: torch.optim.Optimizer, changed: bool = False) -> Iterator[None]:
    """While the block runs Adam's moments are as torch has them, whole and in float32.

    They must exist. `changed`: what the block puts there stays, where there are 8 bits as the nearest value. That
    optimizer takes 8 bytes more per parameter of this worker for that time.
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
        if changed:
            _pack(adam.state[parameter], state)
        adam.state[parameter] = state
    # Else what it was shown would be kept for it.
    _link(engine)


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


def _pack(found: dict[str, Any], state: dict[str, Any]) -> None:
    state["step"] = int(found["step"])
    for name, number in MOMENTS.items():
        kept = state[f"state{number}"]
        if kept.dtype != torch.float32:
            from bitsandbytes.functional import quantize_blockwise

            quantized, scales = quantize_blockwise(found[name], code=state[f"qmap{number}"], blocksize=BLOCK)
            kept.copy_(quantized)
            state[f"absmax{number}"].copy_(scales.absmax)
