"""What training workers send each other, against numbers worked out by hand."""

import pytest

from s2d_ray.planning.network import bytes_per_step, micro_batches, sending_seconds, training_step
from s2d_ray.planning.shapes import PUBLISHED
from s2d_ray.planning.sizing import Node
from s2d_ray.recipes.sections import Train

LLAMA = PUBLISHED["meta-llama/Llama-2-70b"]
FULL = {"lora": None, "batch_size": 64, "dtype": "bfloat16"}


def train(**settings: object) -> Train:
    return Train.model_validate(FULL | settings)


@pytest.mark.parametrize(
    ("stage", "rounds", "times"),
    [
        (0, 1, 2),
        (1, 1, 2),
        (1, 4, 2),  # Gradients are summed up at home and reduced once.
        (2, 1, 2),
        (2, 4, 5),  # Reduced after each micro-batch, gathered once.
        (3, 1, 3),
        (3, 4, 12),  # Gathered twice and reduced, in each.
    ],
)
def test_a_step_sends_what_its_zero_stage_does(stage: int, rounds: int, times: int) -> None:
    # 69 billion parameters of two bytes.
    assert bytes_per_step(LLAMA, train(zero_stage=stage), rounds) == pytest.approx(times * 2 * 68.98e9)


def test_adapters_send_little_but_for_gathered_weights() -> None:
    assert bytes_per_step(LLAMA, train(zero_stage=2, lora={}), 1) < 1e9
    assert bytes_per_step(LLAMA, train(zero_stage=3, lora={}), 1) == pytest.approx(2 * 2 * 68.98e9, rel=0.01)


def test_the_slowest_link_decides() -> None:
    node = Node(gpus=8, network_gbit=400, nvlink_gbyte=300)
    # 7/8 of 300 GB at 300 GB/s; 15/16 of it at 50 GB/s; and at 300 again where the network is faster.
    assert sending_seconds(300e9, 1, node) == 0
    assert sending_seconds(300e9, 8, node) == pytest.approx(7 / 8)
    assert sending_seconds(300e9, 16, node) == pytest.approx(6 * 15 / 16)
    assert sending_seconds(300e9, 16, Node(gpus=8, network_gbit=3200, nvlink_gbyte=300)) == pytest.approx(15 / 16)


def test_micro_batches_are_as_many_as_the_tokens_fill() -> None:
    # 64 pairs over 4 workers: 16 each.
    assert micro_batches(train(workers=4, micro_batch_size=8), 500) == 2
    assert micro_batches(train(workers=4, micro_batch_tokens=4000), 500) == 2
    assert micro_batches(train(workers=4, micro_batch_tokens=4000), 501) == 3
    assert micro_batches(train(workers=4, micro_batch_tokens=10_000), 10) == 1
    assert micro_batches(train(workers=4, micro_batch_tokens=100), 500) == 16


def test_a_step_is_computing_and_sending() -> None:
    settings = train(workers=32, zero_stage=3, micro_batch_tokens=4096)
    step = training_step(LLAMA, settings, 1000, 400, Node(network_gbit=400))
    # 6 x 69e9 FLOPs of 64,000 tokens on 32 GPUs of 4e14; 3 x 138 GB of which 31/32 cross at 50 GB/s.
    assert step.computing == pytest.approx(6 * 68.98e9 * 64_000 / 32 / 4e14)
    assert step.sending == pytest.approx(3 * 2 * 68.98e9 * 31 / 32 / 50e9)
    assert step.network_share == pytest.approx(step.sending / (step.sending + step.computing))
    again = training_step(LLAMA, train(**settings.model_dump() | {"gradient_checkpointing": True}), 1000, 400, Node())
    assert again.computing == pytest.approx(step.computing * 8 / 6)
