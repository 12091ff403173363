"""Memory that a training worker and an engine take: arithmetic on the model's shape and the recipe's settings.

Model states by ZeRO stage: Rajbhandari et al. 2019, arXiv 1910.02054, section 3.1. Activations: Korthikanti et al.
2022, arXiv 2205.05198, section 4, counted anew for gated MLPs, RMSNorm in float32 and the kinds of attention that
transformers has; `tests/planning/test_memory.py` holds it against what PyTorch allocates.
All sizes are in bytes, of one GPU unless said otherwise.
"""

from dataclasses import dataclass
from math import ceil

from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import GIB
from s2d_ray.recipes.sections import Engine, Train
from s2d_ray.training.schedule import LOSS_LOGITS

OPTIMIZER_BYTES = {"adamw": 12, "adamw_8bit": 6}
"""Per trained parameter: a float32 value and Adam's two moments, of four bytes or one (arXiv 2110.02861) each."""
OFFLOADED_BYTES = 6
"""Per trained parameter, beside the optimizer's state in the CPU's memory: its gradient, and that in float32."""
QUANTIZED_BYTES = 0.516
"""Per parameter of a linear map in 4 bits, with its doubly quantized scales (Dettmers 2023, arXiv 2305.14314)."""
LOGIT_BYTES = 16
"""Each, in the model's number format and in float32, with its probability and gradient."""
GRADIENT_BUCKET = 500_000_000
LIVE_PARAMETERS = 1_000_000_000
STEPPED_PARAMETERS = 1_000_000_000
"""DeepSpeed's own `reduce_bucket_size`, `stage3_max_live_parameters` and `sub_group_size`."""
WORKER_BYTES = 8 * GIB
"""CPU memory of a training worker or engine for its process, a file of weights while loading and a part of a
checkpoint while saving (2 GiB each): an assumption."""
ENGINE_BYTES = 3 * GIB
"""Of an engine beside weights and KV cache: activations of a batch of prompts, CUDA graphs. An assumption; vLLM
measures it when it starts."""


@dataclass(frozen=True)
class TrainingMemory:
    """What one training worker takes."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Kept for the backward pass, with what a layer's own takes beside them, and the logits."""
    buffers: float
    """Of communication: weights that ZeRO-3 has gathered, gradients on their way."""
    step: float
    """Float32 gradients while the optimizer steps; activations are gone by then."""
    cpu: float
    """In its node's memory."""

    @property
    def gpu(self) -> float:
        """At the peak."""
        return self.weights + self.gradients + self.optimizer + self.buffers + max(self.activations, self.step)


def training_memory(shape: Shape, train: Train) -> TrainingMemory:
    """With as few workers as the settings allow, and micro-batches as full as they may be."""
    workers, stage = train.min_workers, train.zero_stage
    element = 4 if train.dtype == "float32" else 2
    trained = trained_parameters(shape, train)
    held = _frozen_bytes(shape, train, element) + element * trained
    optimizer = OPTIMIZER_BYTES[train.optimizer] * trained / (workers if stage >= 1 else 1)
    weights = held / (workers if stage == 3 else 1)
    part = trained / workers
    away = {"none": 0.0, "optimizer": optimizer + OFFLOADED_BYTES * part}
    away["parameters"] = away["optimizer"] + weights
    return TrainingMemory(
        weights=0.0 if train.offload == "parameters" else weights,
        # Under ZeRO-3 they go to the CPU's memory with the optimizer's state.
        gradients=0.0 if away[train.offload] and stage == 3 else element * trained / (workers if stage >= 2 else 1),
        optimizer=optimizer if train.offload == "none" else 0.0,
        activations=activation_bytes(shape, train, micro_batch_tokens(train)),
        buffers=_buffer_bytes(shape, train, trained, element) if workers > 1 else 0.0,
        step=4 * min(part, STEPPED_PARAMETERS) if train.offload == "none" else 0.0,
        cpu=WORKER_BYTES + away[train.offload],
    )


def trained_parameters(shape: Shape, train: Train) -> float:
    """All of the model's, or those of the adapters: `rank` times inputs and outputs of each map that has one."""
    if train.lora is None:
        return shape.parameters
    targets = train.lora.targets
    named = shape.linear if targets == "all-linear" else {target.rpartition(".")[2] for target in targets}
    maps = [sizes for name, sizes in shape.linear.items() if name in named]
    return float(train.lora.rank * shape.layers * sum(inputs + outputs for inputs, outputs in maps))


def micro_batch_tokens(train: Train) -> int:
    """Tokens of a worker's fullest forward pass: by the limit, or as many as all its examples at their longest."""
    examples = ceil(train.batch_size / train.min_workers)
    if train.micro_batch_tokens is None:
        return min(examples, train.micro_batch_size) * train.max_length
    # An example that is longer than the limit has a micro-batch to itself.
    return min(examples * train.max_length, max(train.micro_batch_tokens, train.max_length))


def activation_bytes(shape: Shape, train: Train, tokens: int) -> float:
    """Of one forward and backward pass over so many tokens, logits included."""
    element = 4 if train.dtype == "float32" else 2
    layer = layer_bytes(shape, train.attention, element, tokens) * tokens
    if train.gradient_checkpointing:
        kept = element * shape.hidden * tokens * shape.layers + layer
    else:
        kept = layer * shape.layers
    # Gradients on their way back through one MLP, or through one matrix of scores.
    passing = 3 * element * shape.intermediate * tokens
    if train.attention == "eager":
        passing += element * shape.heads * tokens * tokens
    return kept + passing + LOGIT_BYTES * min(tokens * shape.vocabulary, LOSS_LOGITS)


def layer_bytes(shape: Shape, attention: str, element: int, tokens: int) -> float:
    """Kept for the backward pass of one layer, per token of a row of so many."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    # Each of two norms: its input in float32, its normalised input, and its output as the next map's input.
    norms = 2 * (4 + 2 * element) * shape.hidden
    # Queries, keys and values as attention reads them, and its output. All but flash attention repeat keys and values
    # for each query's head, and keep a mask that holds packed examples apart or, of each head, the matrix of scores.
    if attention == "flash_attention_2":
        attended = element * (2 * queries + 2 * keys)
    else:
        scores = shape.heads * (4 + element) if attention == "eager" else element
        attended = 4 * element * queries + scores * tokens
    # Of the MLP its gate, the gate's activation, the other half, and their product.
    return norms + attended + 4 * element * shape.intermediate


def _frozen_bytes(shape: Shape, train: Train, element: int) -> float:
    if train.lora is None:
        return 0.0
    linear = shape.layers * shape.layer_parameters
    quantized = min(linear, shape.parameters) if train.lora.quantize else 0.0
    return QUANTIZED_BYTES * quantized + element * (shape.parameters - quantized)


def _buffer_bytes(shape: Shape, train: Train, trained: float, element: int) -> float:
    """The bucket of gradients that is filled while another is on its way; under ZeRO-3 the gathered weights too."""
    settings: dict[str, float] = train.extra.get("zero_optimization", {})
    buckets = 2 * min(trained, settings.get("reduce_bucket_size", GRADIENT_BUCKET))
    if train.zero_stage == 3:
        live = max(settings.get("stage3_max_live_parameters", LIVE_PARAMETERS), 2 * shape.largest_block)
        block = shape.largest_block if train.lora is None else 0.0
        return element * (buckets + min(live, shape.parameters) + block)
    return element * buckets


LEAST_CACHED = 1 / 8
"""Of `max_sequences` that the KV cache has to hold at full length. vLLM starts with one; with few it decodes few at
once, and the GPU is idle for the most part: a matter of judgement."""


@dataclass(frozen=True)
class EngineMemory:
    """What one of an engine's GPUs has to hold."""

    weights: float
    sequence: float
    """KV cache of one sequence of full length."""
    room: float
    """Bytes for the KV cache; below zero where not even the weights fit."""
    least: float
    """That the engine takes to be worth it."""

    @property
    def sequences(self) -> int:
        """Of full length that the cache holds at once."""
        return max(0, int(self.room / self.sequence))


def engine_memory(shape: Shape, engine: Engine, gpu_memory_gib: float) -> EngineMemory:
    """Weights and keys and values of each layer: over layers' groups (pipeline) and over heads (tensor parallel).

    More GPUs than heads of keys and values keep copies of these.
    """
    element = 4 if engine.dtype == "float32" else 2
    weights = element * shape.parameters / engine.gpus
    heads = ceil(shape.kv_heads / engine.tensor_parallel)
    layers = ceil(shape.layers / engine.pipeline_parallel)
    sequence = 2 * element * layers * heads * shape.head * engine.max_model_len
    room = engine.gpu_memory * gpu_memory_gib * GIB - weights - ENGINE_BYTES
    least = weights + ENGINE_BYTES + ceil(LEAST_CACHED * engine.max_sequences) * sequence
    return EngineMemory(weights, sequence, room, least)
