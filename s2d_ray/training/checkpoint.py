"""Checkpoints that any number of workers can go on from, at any ZeRO stage.

Every trained parameter is stored whole, as safetensors: its float32 value and Adam's two moments. How DeepSpeed splits
them over workers is undone when they are saved and done anew when they are loaded. DeepSpeed's own answer, the
universal checkpoint, is made from an ordinary one by a separate conversion of pickle files; here a checkpoint is ready
as soon as it is written, holds no code that loading could run, and leaves out the weights that LoRA never changes.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from safetensors.torch import save_file
from torch.nn.functional import pad

from s2d_ray.data.files import read_json, write_json

STEPS = "steps.json"
VALUE = "value"
MOMENTS = ("exp_avg", "exp_avg_sq")
FILE_BYTES = 2**31
"""Written to one file at least, where there is so much: what a worker holds in memory while it saves."""
AHEAD = 3
"""Tensors that a worker reads while others are sent: else all would wait for one read at a time."""


def save(engine: Any, adam: torch.optim.Optimizer, folder: Path, done: int) -> None:
    """This worker's part of a checkpoint after `done` steps: every so many-th parameter, in files of its own.

    All workers take part, since each may hold a part of every parameter.
    """
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    mine: dict[str, torch.Tensor] = {}
    files = 0
    for number, (name, parameter) in enumerate(_trained(engine)):
        for key in (VALUE, *MOMENTS):
            whole = _whole(engine, adam, parameter, key)
            if number % workers == rank:
                mine[f"{key}/{name}"] = whole.to("cpu", torch.float32).contiguous()
        if sum(tensor.nbytes for tensor in mine.values()) >= FILE_BYTES:
            save_file(mine, folder / f"state-{rank}-{files}.safetensors")
            files, mine = files + 1, {}
    save_file(mine, folder / f"state-{rank}-{files}.safetensors")
    if rank == 0:
        # Adam counts for itself: DeepSpeed passes over an overflow, and takes an empty step first without ZeRO.
        adam_steps = next(int(state["step"]) for state in adam.state.values())
        write_json(folder / STEPS, {"done": done, "adam": adam_steps})


def load(engine: Any, adam: torch.optim.Optimizer, folder: Path) -> int:
    """Overwrite the trained parameters and Adam's state, which must exist; the steps that the checkpoint has behind it.

    All workers take part. Each reads every so many-th parameter, sends it to the others, and keeps of all of them the
    part that is its own: however many there are, the checkpoint is read once.
    """
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    stored, trained = _stored(folder), list(_trained(engine))
    mine = _ahead(stored[f"{key}/{name}"] for name, _ in trained[rank::workers] for key in (VALUE, *MOMENTS))
    for number, (_, parameter) in enumerate(trained):
        for key in (VALUE, *MOMENTS):
            whole = torch.empty(getattr(parameter, "ds_shape", parameter.shape), device=engine.device)
            if number % workers == rank:
                whole.copy_(next(mine))
            torch.distributed.broadcast(whole, number % workers)
            if key == VALUE:
                with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=_sharded(parameter)):
                    parameter.data.copy_(whole)
            _put(engine, adam, parameter, key, whole)
    steps = read_json(folder / STEPS)
    for state in adam.state.values():
        state["step"].fill_(steps["adam"])
    return int(steps["done"])


class Stored(NamedTuple):
    """Where a tensor of float32 is in a safetensors file."""

    file: Path
    first: int
    """Of its bytes, counted from the beginning of the file."""
    size: int
    """Bytes."""
    shape: list[int]

    def read(self) -> torch.Tensor:
        """The tensor; of the file, which may be in object storage, nothing else is read."""
        data = bytearray(self.size)
        with self.file.open("rb") as file:
            file.seek(self.first)
            if file.readinto(data) != self.size:
                raise OSError(f"{self.file} ends too early")
        return torch.frombuffer(data, dtype=torch.float32).reshape(self.shape)


def _ahead(tensors: Iterable[Stored]) -> Iterator[torch.Tensor]:
    """Their values, of which a few are read while the one before is at work."""
    with ThreadPoolExecutor(AHEAD) as pool:
        reads: deque[Future[torch.Tensor]] = deque()
        for stored in tensors:
            reads.append(pool.submit(stored.read))
            if len(reads) > AHEAD:
                yield reads.popleft().result()
        while reads:
            yield reads.popleft().result()


def _stored(folder: Path) -> dict[str, Stored]:
    """Name → the tensor, of all files in the folder."""
    with ThreadPoolExecutor() as pool:
        return {
            name: found for tensors in pool.map(_stored_in, folder.glob("*.safetensors")) for name, found in tensors
        }


def _stored_in(file: Path) -> list[tuple[str, Stored]]:
    # The length of the header in 8 bytes, the header as JSON, and then the tensors.
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    placed = ((name, *entry["data_offsets"], entry["shape"]) for name, entry in header.items())
    return [(name, Stored(file, 8 + length + first, end - first, shape)) for name, first, end, shape in placed]


def _trained(engine: Any) -> Iterator[tuple[str, Any]]:
    return (named for named in engine.module.named_parameters() if named[1].requires_grad)


def _sharded(parameter: Any) -> bool:
    """Whether it is split over the workers, as ZeRO-3 does."""
    return hasattr(parameter, "ds_id")


def _whole(engine: Any, adam: torch.optim.Optimizer, parameter: Any, key: str) -> torch.Tensor:
    if engine.zero_optimization_stage() == 0:
        return _unsplit(engine, adam, parameter, key)
    whole: torch.Tensor = (
        safe_get_full_fp32_param(parameter) if key == VALUE else safe_get_full_optimizer_state(parameter, key)
    )
    return whole


def _put(engine: Any, adam: torch.optim.Optimizer, parameter: Any, key: str, whole: torch.Tensor) -> None:
    if engine.zero_optimization_stage() == 0:
        _unsplit(engine, adam, parameter, key).copy_(whole)
    elif _sharded(parameter):
        # DeepSpeed's setter for the whole fails where a parameter does not divide evenly over the workers.
        part = _part(parameter, whole)
        if key == VALUE:
            safe_set_local_fp32_param(parameter, part)
        else:
            safe_set_local_optimizer_state(parameter, part, key)
    elif key == VALUE:
        safe_set_full_fp32_param(parameter, whole)
    else:
        safe_set_full_optimizer_state(parameter, whole, key)


def _part(parameter: Any, whole: torch.Tensor) -> torch.Tensor:
    """This worker's part of a ZeRO-3 parameter; the last worker's is filled up with zeros."""
    rank, workers, size = torch.distributed.get_rank(), torch.distributed.get_world_size(), parameter.ds_tensor.numel()
    return pad(whole.flatten(), (0, size * workers - whole.numel())).narrow(0, size * rank, size)


def _unsplit(engine: Any, adam: torch.optim.Optimizer, parameter: Any, key: str) -> torch.Tensor:
    """Without ZeRO: the tensor itself. DeepSpeed's wrapper for bfloat16 keeps float32 copies beside the parameters."""
    wrapper = engine.optimizer
    master = parameter
    if wrapper is not adam:
        pairs = zip(chain(*wrapper.fp16_groups), chain(*wrapper.fp32_groups), strict=True)
        master = next(copy for original, copy in pairs if original is parameter)
    tensor: torch.Tensor = master.data if key == VALUE else adam.state[master][key]
    return tensor
