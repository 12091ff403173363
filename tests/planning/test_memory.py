"""Memory of training and engines: against what PyTorch allocates, and against numbers worked out by hand."""

from dataclasses import replace

import pytest

from s2d_ray.planning.memory import (
    activation_bytes,
    engine_memory,
    micro_batch_tokens,
    trained_parameters,
    training_memory,
)
from s2d_ray.planning.shapes import PUBLISHED, Shape
from s2d_ray.planning.sizing import GIB
from s2d_ray.recipes.sections import Engine, Train

LLAMA = PUBLISHED["meta-llama/Llama-2-70b"]
SMALL = PUBLISHED["meta-llama/Llama-3.1-8B"]
FULL = {"lora": None, "batch_size": 64, "dtype": "bfloat16"}


def train(**settings: object) -> Train:
    return Train.model_validate(FULL | settings)


def peak(shape: Shape, tokens: int, settings: Train) -> int:
    """Bytes beside weights and gradients at the height of a step on packed rows, as PyTorch counts its allocations.

    Tensors are fake: they have a size and no content. Gradients go as soon as they are there, as ZeRO has it.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        attn_implementation="sdpa" if settings.attention == "auto" else settings.attention,
    )
    with FakeTensorMode():
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).train()
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
            output = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=8)
            output.logits.float().sum().backward()
        [counted] = tracker.get_tracker_snapshot("peak").values()
    own = {getattr(kind, "value", kind): size for kind, size in counted.items()}
    return int(own["Total"] - own["Parameter"] - own["Gradient"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Expected a tensor:UserWarning")  # A gradient that went before it was counted.
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("published", [LLAMA, SMALL], ids=["70B", "8B"])
def test_activations_are_what_pytorch_allocates(published: Shape, attention: str, checkpointing: bool) -> None:
    shape, tokens = replace(published, layers=6, vocabulary=1000), 2048
    settings = train(attention=attention, gradient_checkpointing=checkpointing)
    # PyTorch's has the gradient of one map too, which is among the buffers here.
    counted = activation_bytes(shape, settings, tokens) + 2 * shape.hidden * shape.intermediate
    assert counted == pytest.approx(peak(shape, tokens, settings), rel=0.2)


def test_checkpointing_keeps_a_layers_input_and_nothing_else_of_it() -> None:
    deep, deeper = replace(LLAMA, layers=80), replace(LLAMA, layers=81)
    for checkpointing, kept in ((True, 2 * 8192), (False, 16 * 8192 + 8 * 8192 + 2 * 4096 + 8 * 28672)):
        settings = train(gradient_checkpointing=checkpointing)
        more = activation_bytes(deeper, settings, 4096) - activation_bytes(deep, settings, 4096)
        assert more == pytest.approx(4096 * kept)


def test_flash_attention_keeps_neither_a_mask_nor_repeated_heads() -> None:
    flash, sdpa = (train(attention=kind) for kind in ("flash_attention_2", "sdpa"))
    # Per layer and token a mask of 4096 and seven eighths of keys and values, two bytes each.
    spared = 80 * 4096 * 2 * (4096 + 2 * 7 / 8 * 8192)
    assert activation_bytes(LLAMA, sdpa, 4096) - activation_bytes(LLAMA, flash, 4096) == pytest.approx(spared)


@pytest.mark.parametrize(
    ("settings", "gib"),
    # 69 billion parameters: 2 bytes of weights, 2 of gradients and 12 of the optimizer, over 32 workers what is shared.
    [
        ({"zero_stage": 3}, {"weights": 2 / 32, "gradients": 2 / 32, "optimizer": 12 / 32}),
        ({"zero_stage": 2}, {"weights": 2, "gradients": 2 / 32, "optimizer": 12 / 32}),
        ({"zero_stage": 1}, {"weights": 2, "gradients": 2, "optimizer": 12 / 32}),
        ({"zero_stage": 0}, {"weights": 2, "gradients": 2, "optimizer": 12}),
        ({"zero_stage": 3, "optimizer": "adamw_8bit"}, {"weights": 2 / 32, "optimizer": 6 / 32}),
        (
            {"zero_stage": 3, "offload": "optimizer"},
            {"weights": 2 / 32, "gradients": 0, "optimizer": 0, "cpu": 18 / 32},
        ),
        ({"zero_stage": 3, "offload": "parameters"}, {"weights": 0, "optimizer": 0, "cpu": 20 / 32}),
        ({"zero_stage": 3, "workers": [16, 64]}, {"weights": 2 / 16, "gradients": 2 / 16, "optimizer": 12 / 16}),
        ({"zero_stage": 3, "dtype": "float32"}, {"weights": 4 / 32, "gradients": 4 / 32}),
    ],
)
def test_states_are_shared_out_by_zero_stage(settings: dict[str, object], gib: dict[str, float]) -> None:
    held = training_memory(LLAMA, train(**{"workers": 32} | settings))
    found = {name: getattr(held, name) - (8 * GIB if name == "cpu" else 0) for name in gib}
    assert found == pytest.approx({name: times * 68.98e9 for name, times in gib.items()})


def test_adapters_are_trained_and_the_rest_is_held_in_two_bytes_or_in_half_a_byte() -> None:
    adapters = train(lora={"rank": 16})
    # Of each layer 16 times inputs and outputs of q, o, k, v, gate, up and down.
    trained = 80 * 16 * (2 * 2 * 8192 + 2 * (8192 + 1024) + 3 * (8192 + 28672))
    assert trained_parameters(SMALL, train()) == SMALL.parameters
    assert trained_parameters(LLAMA, adapters) == trained
    assert trained_parameters(LLAMA, train(lora={"targets": ["q_proj", "self_attn.v_proj"]})) == 80 * 16 * (
        4 * 4096 + 9216
    )
    held = training_memory(LLAMA, adapters)
    assert held.weights == pytest.approx(2 * (68.98e9 + trained))
    assert held.optimizer == pytest.approx(12 * trained)
    quantized = training_memory(LLAMA, train(lora={"rank": 16, "quantize": "4bit"}))
    # The embedding and the output layer stay as they are.
    assert quantized.weights == pytest.approx(0.516 * 68.98e9 + (2 - 0.516) * 2 * 8192 * 32000, rel=0.02)
    assert quantized.optimizer == held.optimizer


def test_a_micro_batch_is_as_full_as_the_settings_allow() -> None:
    assert micro_batch_tokens(train(workers=4, micro_batch_size=8, max_length=512)) == 8 * 512
    assert micro_batch_tokens(train(workers=32, micro_batch_size=8, max_length=512)) == 2 * 512
    assert micro_batch_tokens(train(workers=4, micro_batch_tokens=2000, max_length=512)) == 2000
    assert micro_batch_tokens(train(workers=4, micro_batch_tokens=100, max_length=512)) == 512
    # The fewest workers have the most examples each.
    assert micro_batch_tokens(train(workers=[32, 64], micro_batch_tokens=2000, max_length=512)) == 2 * 512


def test_several_workers_have_buffers_that_extra_can_make_smaller() -> None:
    alone, two = (training_memory(SMALL, train(workers=workers, zero_stage=2)).buffers for workers in (1, 2))
    assert (alone, two) == (0, 2 * 2 * 500e6)
    smaller = {"zero_optimization": {"reduce_bucket_size": 100_000_000}}
    assert training_memory(SMALL, train(workers=2, zero_stage=2, extra=smaller)).buffers == 2 * 2 * 100e6
    gathered = training_memory(LLAMA, train(workers=2, zero_stage=3)).buffers
    # Both buckets, two layers of 856 million gathered parameters, and the gradients of one.
    assert gathered == pytest.approx(2 * (1e9 + 3 * LLAMA.layer_parameters))


def test_an_engine_has_room_for_as_many_sequences_as_its_cache_holds() -> None:
    engine = Engine(tensor_parallel=4, max_model_len=4096, gpu_memory=0.85)
    held = engine_memory(LLAMA, engine, 80)
    # Of each token two of 80 layers' 8 heads of 128, two bytes each, over four GPUs.
    assert held.sequence == 4096 * 2 * 80 * 8 * 128 * 2 / 4
    assert held.weights == pytest.approx(2 * 68.98e9 / 4)
    assert held.room == pytest.approx(0.85 * 80 * GIB - held.weights - 3 * GIB)
    assert held.sequences == int(held.room / held.sequence) == 105
    # To be worth its GPUs it has to hold 16 of its 128.
    assert held.least == pytest.approx(held.weights + 3 * GIB + 16 * held.sequence)
    # Sixteen GPUs have a head each, eight of them a copy; groups of layers share them out.
    wide, deep = Engine(tensor_parallel=16, max_model_len=4096), Engine(pipeline_parallel=16, max_model_len=4096)
    assert engine_memory(LLAMA, wide, 80).sequence == 2 * engine_memory(LLAMA, deep, 80).sequence
    assert engine_memory(LLAMA, Engine(tensor_parallel=1), 80).sequences == 0
