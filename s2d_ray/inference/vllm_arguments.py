"""What vLLM is told when an engine is started."""

import os
from pathlib import Path
from typing import Any

from s2d_ray.data.files import read_json
from s2d_ray.devices import has_cuda_build
from s2d_ray.recipes.sections import Engine
from s2d_ray.rendering.thoughts import Marks

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""


def engine_arguments(config: Engine, model: Path, trust_remote_code: bool) -> dict[str, Any]:
    """vLLM's engine arguments for this machine. Call before vLLM is imported: on CPU it reads the environment."""
    on_cpu = not has_cuda_build()
    arguments: dict[str, Any] = {
        "model": str(model),
        "load_format": "safetensors",
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_sequences,
        "tensor_parallel_size": config.tensor_parallel,
        "pipeline_parallel_size": config.pipeline_parallel,
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu if config.compile is None else not config.compile,
        "trust_remote_code": trust_remote_code,
        "disable_log_stats": True,
    }
    if not on_cpu:
        if config.pipeline_parallel > 1:
            # Its workers are then where Ray has set GPUs aside for them, on whatever node.
            arguments["distributed_executor_backend"] = "ray"
        return arguments | {"gpu_memory_utilization": config.gpu_memory} | config.extra
    _deal_out_cores(config)
    arguments["kv_cache_memory_bytes"] = int(config.kv_cache_gib * 2**30)
    # vLLM's CPU default of 128 tokens a block leaves most of a few-shot prefix uncached.
    arguments["block_size"] = 32
    if config.seeded:
        # A seeded request whose prompt is prefilled in chunks stops the CPU engine (vLLM 0.29).
        arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, config.max_model_len)}
    return arguments | config.extra


def _deal_out_cores(config: Engine) -> None:
    """By the environment: which cores each of the engine's processes, one a GPU elsewhere, computes with."""
    processes = config.gpus
    if config.cpus is not None:
        threads = max(1, config.cpus // processes)
        os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
        return
    bound = os.environ.get("VLLM_CPU_OMP_THREADS_BIND")
    if bound is not None and (bound.isalpha() or bound.count("|") + 1 == processes):
        return  # Chosen by whoever starts this. Shares for another number of processes are of an engine before.
    if config.max_engines == 1:
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
        shares = [cores[first::processes] or cores for first in range(processes)]
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(",".join, shares))
    elif processes > 1:  # vLLM's own choice wants a NUMA node for each.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def adapter_arguments(adapter: Path) -> dict[str, Any]:
    """For an engine that answers with the adapter too."""
    # Two places, of which one stays empty: for requests without an adapter, vLLM's CPU kernels take the last
    # place where such with one are in the same batch (vLLM 0.29).
    return {"enable_lora": True, "max_lora_rank": _rank(adapter), "max_loras": 2}


def form_arguments(marks: Marks | None) -> dict[str, Any]:
    """For answers of a form, and for thoughts where the model has some: their budget, and that no form binds them."""
    from vllm.config import ReasoningConfig, StructuredOutputsConfig

    # One backend for all requests, and none of the white space that a small model goes on with.
    forms = {"structured_outputs_config": StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)}
    if marks is None:
        return forms
    budget = ReasoningConfig(reasoning_start_str=marks.start, reasoning_end_str=marks.forced_end)
    # vLLM's parser says where a thought ends, after which an answer's form begins.
    return forms | {"reasoning_config": budget, "reasoning_parser": marks.parsers[0]}


def _rank(adapter: Path) -> int:
    """The adapter's rank, as the next one that vLLM has room for."""
    rank = read_json(adapter / "adapter_config.json")["r"]
    return next(room for room in LORA_RANKS if room >= rank)
