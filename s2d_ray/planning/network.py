"""What training workers send each other, and the share of a step that it takes.

Under ZeRO stages 1 and 2, as without ZeRO, a step sends and receives twice the trained parameters a GPU: gradients are
reduced to where they are needed, values or gradients gathered from there. Stage 3 gathers the weights for the forward
and for the backward pass too, three times the parameters (Rajbhandari et al. 2019, arXiv 1910.02054, section 7). What
is done in each micro-batch counts as often as there are any: gathering weights, and reducing gradients where no worker
has room for all of them. A collective over N GPUs takes its bytes times (N - 1) / N over the slowest link (nccl-tests,
doc/PERFORMANCE.md). Nothing overlaps here; where it does, a step is shorter.
"""

from math import ceil
from typing import NamedTuple

from s2d_ray.planning.memory import trained_parameters
from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import Node, training_seconds
from s2d_ray.recipes.sections import Train
from s2d_ray.training.schedule import accumulation_steps


class Step(NamedTuple):
    """One optimizer step, in seconds."""

    computing: float
    sending: float

    @property
    def seconds(self) -> float:
        """In all, if nothing overlaps."""
        return self.computing + self.sending

    @property
    def network_share(self) -> float:
        """From 0 to 1."""
        return self.sending / self.seconds


def training_step(shape: Shape, train: Train, tokens_per_pair: float, teraflops: float, node: Node) -> Step:
    """With all of its workers, and pairs of so many tokens."""
    tokens = train.batch_size * tokens_per_pair
    gpu_seconds = training_seconds(
        tokens, shape.parameters, train.lora is not None, train.gradient_checkpointing, teraflops
    )
    sent = bytes_per_step(shape, train, micro_batches(train, tokens_per_pair))
    return Step(gpu_seconds / train.max_workers, sending_seconds(sent, train.max_workers, node))


def micro_batches(train: Train, tokens_per_pair: float) -> int:
    """Of each worker in one step."""
    if train.micro_batch_tokens is None:
        return accumulation_steps(train.batch_size, train.max_workers, train.micro_batch_size)
    tokens = ceil(train.batch_size / train.max_workers) * tokens_per_pair
    return max(1, ceil(tokens / max(train.micro_batch_tokens, tokens_per_pair)))


def bytes_per_step(shape: Shape, train: Train, rounds: int) -> float:
    """That the collectives of a step have, over so many micro-batches."""
    element = 4 if train.dtype == "float32" else 2
    trained = trained_parameters(shape, train)
    if train.zero_stage == 3:
        return element * rounds * (2 * shape.parameters + trained)
    return element * trained * (1 + (rounds if train.zero_stage == 2 else 1))


def sending_seconds(sent: float, workers: int, node: Node) -> float:
    """Over the links in a node, or between nodes where there are several and these are slower."""
    link = node.nvlink_gbyte * 1e9
    if workers > node.gpus:
        link = min(link, node.network_gbit * 1e9 / 8)
    return sent * (workers - 1) / workers / link
