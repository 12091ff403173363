"""Which number format a machine computes in."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s2d_ray import devices
from s2d_ray.devices import choose_dtype, cpu_name
from s2d_ray.errors import UserError

SLOW_BFLOAT16 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""Makes torch compute as on a CPU that has no AVX-512: there it has no fast product in bfloat16."""


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    """Torch says that it has a GPU, in this process."""
    import torch

    says = {"is_available": lambda: True, "get_device_capability": lambda: capability, "get_device_name": lambda: "T4"}
    for name, answer in says.items():
        monkeypatch.setattr(torch.cuda, name, answer)


@pytest.mark.slow
def test_a_cpu_without_avx512_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLOW_BFLOAT16.items():
        monkeypatch.setenv(name, value)
    choice = choose_dtype()
    assert choice.dtype == "float32"
    assert choice.device == cpu_name()
    assert "bfloat16" in choice.reason


@pytest.mark.parametrize("times, dtype", [((1e-3, 2e-3), "bfloat16"), ((2e-3, 1e-3), "float32")])
def test_a_cpu_computes_in_the_faster_format(
    times: tuple[float, float], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_product_seconds", lambda *dtypes: list(times))
    choice = devices._choose_here()
    assert (choice.dtype, choice.seconds) == (dtype, 1e-3)


@pytest.mark.parametrize(
    "capability, dtype", [((7, 5), "float16"), ((7, 0), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_a_gpu_computes_in_bfloat16_where_it_has_it(
    capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch, capability)
    choice = devices._choose_here()
    assert (choice.dtype, choice.device, choice.seconds) == (dtype, "T4", None)


def test_without_torch_the_advice_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(
        returncode=1, stderr="Traceback\nModuleNotFoundError: No module named 'torch'\n", stdout=""
    )

    def run(*command: Any, **options: Any) -> SimpleNamespace:
        return failed

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(UserError, match=r"No module named 'torch'.*s2d doctor"):
        choose_dtype()


@pytest.mark.slow
def test_the_choice_leaves_torch_out_of_this_process() -> None:
    # What has used a GPU holds its memory until it ends: the driver must not.
    program = "import sys; from s2d_ray.devices import choose_dtype; choose_dtype(); print('torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "False"


@pytest.mark.parametrize(
    "flags, name",
    [
        ("sse2 avx2", "A CPU, AVX2"),
        ("avx2 avx512f", "A CPU, AVX-512"),
        ("avx2 avx512f avx512_bf16", "A CPU, AVX-512 with bfloat16"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "A CPU, AMX"),
        ("sse2", "A CPU"),
    ],
)
def test_a_cpu_is_called_by_its_model_and_its_fastest_instructions(flags: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n")
    assert cpu_name(tmp_path / "cpuinfo") == name
    assert cpu_name(tmp_path / "absent")


def test_gpus_are_what_the_drivers_tool_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpu_names() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho '  MIG 1g.10gb Device 0: (UUID: MIG-2)'\n"
    )
    tool.chmod(0o755)
    assert devices.gpu_names() == ["GPU 0: NVIDIA H100"]
    tool.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert devices.gpu_names() == []
