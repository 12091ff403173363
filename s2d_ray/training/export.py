"""From training state to folders that transformers, peft and vLLM load as they are.

A model is written part by part: a part is a layer, or with adapters a tensor of the base model's files. What a worker
holds for it is one file of the result at most, never the model.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.core_model_loading import revert_weight_conversion
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from s2d_ray.data.files import read_json, write_json
from s2d_ray.data.storage import filled
from s2d_ray.errors import UserError
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.job import TrainJob

ADAPTER = "adapter"
FILE_BYTES = 2**32
"""Of the model, in one file at most, unless one part is larger: what a worker holds in memory while it writes."""
LAYER = re.compile(r".*?\.\d+(?=\.)")
"""Of a parameter's name, what all names of the same layer begin with."""
PLAIN_FORMATS = {torch.bfloat16, torch.float16, torch.float32, torch.float64}
"""Number formats of tensors in files that an adapter can be added to."""

Tensors = Mapping[str, torch.Tensor]


class Part(NamedTuple):
    """Tensors of the model's files that are made at once."""

    sizes: Mapping[str, int]
    """Name in the files → bytes."""
    make: Callable[[bool], Tensors]
    """All workers call it together, since each may hold a piece of every parameter; the tensors, on the CPU, where a
    worker asks for them with True, else none."""


class Export:
    """How the model that is trained will be written. Made before the training, since it raises what stands against it.

    Raises UserError for adapters that cannot be added to the base model's files.
    """

    def __init__(self, job: TrainJob, model: Any, renderer: Renderer) -> None:
        self._job, self._model, self._renderer = job, model, renderer
        self._plain = model if job.train.lora is None else model.get_base_model()
        self._parts = _layers(model) if job.train.lora is None else _merged(self._plain, job.model)

    def write(self, target: Path, file_bytes: int = FILE_BYTES) -> None:
        """The model to `target` (bf16 safetensors) and its adapter, if any, to `target/adapter`.

        All workers call it together, and write a file each in turn.
        """
        rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
        files = _files(self._parts, file_bytes)
        target.mkdir(parents=True, exist_ok=True)
        for number, (name, parts) in enumerate(files.items()):
            mine = number % workers == rank
            tensors: dict[str, torch.Tensor] = {}
            for part in parts:
                tensors |= part.make(mine)
            if mine:
                with filled(target) as folder:
                    save_file(tensors, folder / name, metadata={"format": "pt"})
        adapter = self._adapter(rank == 0)
        if rank == 0:
            with filled(target) as folder:
                self._describe(folder, files)
                if adapter:
                    self._model.save_pretrained(folder / ADAPTER, state_dict=adapter)

    def _adapter(self, mine: bool) -> Tensors:
        if self._job.train.lora is None:
            return {}
        self._model.peft_config["default"].base_model_name_or_path = str(self._job.model)
        trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        return _values(trained, torch.float32, mine)

    def _describe(self, folder: Path, files: Mapping[str, Sequence[Part]]) -> None:
        """What is beside the weights: their index, configurations, code that came with the base model, tokenizer."""
        if len(files) > 1:
            places = {tensor: name for name, parts in files.items() for part in parts for tensor in part.sizes}
            total = sum(sum(part.sizes.values()) for part in self._parts)
            write_json(folder / SAFE_WEIGHTS_INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": places})
        # The base's own: the model's may tell how it was loaded for the training.
        config = AutoConfig.from_pretrained(self._job.model, trust_remote_code=self._job.trust_remote_code)
        config.dtype, config.architectures = "bfloat16", [type(self._plain).__name__]
        if self._plain.is_remote_code():
            custom_object_save(self._plain, folder, config=config)
        config.save_pretrained(folder)
        self._describe_chats(folder)

    def _describe_chats(self, folder: Path) -> None:
        """So that whoever loads the model, told nothing, puts chats to it and stops as in its training."""
        generation, tokenizer, end = self._plain.generation_config, self._renderer.tokenizer, self._renderer.end
        ends = generation.eos_token_id or []
        ends = ends if isinstance(ends, list) else [ends]
        if end is not None and end not in ends:
            generation.eos_token_id = [*ends, end]
        generation.save_pretrained(folder)
        tokenizer.chat_template = self._renderer.trained_template
        tokenizer.save_pretrained(folder)


def _files(parts: Sequence[Part], most: int) -> dict[str, list[Part]]:
    """File name, as transformers names them → the parts in it, of `most` bytes together or one that is larger."""
    files: list[list[Part]] = []
    room = 0
    for part in parts:
        size = sum(part.sizes.values())
        if size > room:
            files.append([])
            room = most
        files[-1].append(part)
        room -= size
    if len(files) == 1:
        return {SAFE_WEIGHTS_NAME: files[0]}
    return {f"model-{number:05}-of-{len(files):05}.safetensors": found for number, found in enumerate(files, 1)}


def _layers(model: Any) -> list[Part]:
    """The whole model, layer by layer, as its own `save_pretrained` would write it."""
    layers: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name not in model.all_tied_weights_keys:
            layer = LAYER.match(name)
            layers[layer[0] if layer else name][name] = tensor
    return [_layer(model, tensors) for tensors in layers.values()]


def _layer(model: Any, tensors: Tensors) -> Part:
    # Where transformers renames or fuses tensors as it loads them, that is undone.
    shapes = {name: torch.empty(_shape(t), dtype=_written(t.dtype), device="meta") for name, t in tensors.items()}
    sizes = {name: tensor.nbytes for name, tensor in revert_weight_conversion(model, shapes).items()}

    def make(mine: bool) -> Tensors:
        values = _values(tensors, torch.bfloat16, mine)
        return {name: value.contiguous() for name, value in revert_weight_conversion(model, values).items()}

    return Part(sizes, make)


def _merged(model: Any, base: Path) -> list[Part]:
    """The tensors of the base model's files, first those that an adapter adds to."""
    files = _tensor_files(base)
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]
    changed = [_changed(model, name, layer, files) for name, layer in layers]
    rest = files.keys() - {name for part in changed for name in part.sizes}
    return changed + [_unchanged(name, file) for name, file in files.items() if name in rest]


def _tensor_files(base: Path) -> dict[str, Path]:
    """Name → the file that it is in, as transformers chooses the files: a folder may have others too."""
    if (base / SAFE_WEIGHTS_NAME).exists():
        with safe_open(base / SAFE_WEIGHTS_NAME, framework="pt") as opened:
            return dict.fromkeys(opened.keys(), base / SAFE_WEIGHTS_NAME)
    return {name: base / file for name, file in read_json(base / SAFE_WEIGHTS_INDEX_NAME)["weight_map"].items()}


def _unchanged(name: str, file: Path) -> Part:
    def make(mine: bool) -> Tensors:
        if not mine:
            return {}
        tensor = _read(name, file)
        return {name: tensor.to(_written(tensor.dtype))}

    return Part({name: _size(_read(name, file))}, make)


def _changed(model: Any, name: str, layer: Any, files: Mapping[str, Path]) -> Part:
    """The tensors of the files that a layer's adapter adds to: one, or more where transformers fuses them."""
    parameter = f"{name.replace('.base_layer', '')}.{getattr(layer, 'parameter_name', 'weight')}"
    cannot = UserError(
        f"{parameter} has an adapter, which cannot be added to the base model's files as they are: "
        "name other layers for the adapters, or set train.lora=null"
    )
    if "default" not in layer.lora_A:
        raise cannot
    adapter = {part: getattr(layer, part)["default"].weight for part in ("lora_A", "lora_B")}

    def added(adapter: Tensors) -> dict[str, torch.Tensor]:
        found = revert_weight_conversion(model, {parameter: _product(layer, **adapter)})
        return {_stored_name(model, name, files): value for name, value in found.items()}

    def make(mine: bool) -> Tensors:
        values = _values(adapter, torch.float32, mine)
        if not mine:
            return {}
        sums = ((name, _read(name, files[name]).float() + value) for name, value in added(values).items())
        return {name: value.to(torch.bfloat16) for name, value in sums}

    shapes = added({part: torch.empty(_shape(tensor), device="meta") for part, tensor in adapter.items()})
    for stored, shape in shapes.items():
        if stored not in files or _read(stored, files[stored]).shape != shape.shape:
            raise cannot
        if _read(stored, files[stored]).dtype not in PLAIN_FORMATS:
            raise UserError(f"{stored} of {files[stored].parent} is quantised: train from what it was made of instead")
    return Part({stored: _size(_read(stored, files[stored])) for stored in shapes}, make)


def _stored_name(model: Any, name: str, files: Mapping[str, Path]) -> str:
    """Of a tensor, in files that may leave out what all names of the model begin with."""
    return name if name in files else name.removeprefix(f"{model.base_model_prefix}.")


def _read(name: str, file: Path) -> torch.Tensor:
    # Mapped: it is in memory only once it is computed with.
    with safe_open(file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor


def _size(tensor: torch.Tensor) -> int:
    """Bytes, as written."""
    return tensor.numel() * _written(tensor.dtype).itemsize


def _product(layer: Any, lora_A: torch.Tensor, lora_B: torch.Tensor) -> torch.Tensor:
    """What the adapter adds to the layer's parameter, computed as peft does."""
    product: torch.Tensor
    experts, scaling = getattr(layer, "num_experts", 1), float(layer.scaling["default"])
    if experts == 1:
        product = transpose(lora_B @ lora_A, layer.fan_in_fan_out)
    else:
        terms = "ore,eri->eoi" if layer._did_swap_in_out_features else "ore,eri->eio"
        a, b = lora_A.reshape(experts, -1, lora_A.shape[-1]), lora_B.reshape(len(lora_B), -1, experts)
        product = torch.einsum(terms, b, a)
    return product * scaling


def _values(tensors: Tensors, dtype: torch.dtype, mine: bool) -> dict[str, torch.Tensor]:
    """Copies on the CPU, in `dtype` where they are floating point; one at a time is whole on the other workers."""
    values = {}
    for name, tensor in tensors.items():
        # ZeRO-3 has split it over the workers.
        with deepspeed.zero.GatheredParameters([tensor], enabled=hasattr(tensor, "ds_id")):
            if mine:
                values[name] = tensor.detach().to("cpu", _written(tensor.dtype, dtype), copy=True)
    return values


def _shape(tensor: torch.Tensor) -> torch.Size:
    shape: torch.Size = getattr(tensor, "ds_shape", tensor.shape)
    return shape


def _written(dtype: torch.dtype, floating: torch.dtype = torch.bfloat16) -> torch.dtype:
    return floating if dtype.is_floating_point else dtype
