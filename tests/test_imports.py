"""What a module or a command loads when it starts: nothing heavy before it is needed."""

import pkgutil
import subprocess
import sys

import pytest

import s2d_ray

HEAVY_PARTS = (
    "s2d_ray.stages",
    "s2d_ray.training",
    "s2d_ray.inference.vllm_engine",
    "s2d_ray.serving.deployments",
    "s2d_ray.serving.prometheus",
    "s2d_ray.serving.service",
)
# Imports each module in turn and prints what it was the first to load.
PROBE = """
import importlib, sys
loaded = set()
for name in sys.argv[1:]:
    importlib.import_module(name)
    for heavy in {"ray", "vllm", "torch"} & sys.modules.keys() - loaded:
        loaded.add(heavy)
        print(f"{name} loads {heavy}")
"""


@pytest.mark.slow
def test_modules_outside_the_heavy_parts_import_neither_ray_nor_vllm_nor_torch() -> None:
    every = [module.name for module in pkgutil.walk_packages(s2d_ray.__path__, "s2d_ray.")]
    light = [name for name in every if not name.startswith(HEAVY_PARTS)]
    assert {"s2d_ray.recipes.recipe", "s2d_ray.doctor", "s2d_ray.tasks.geonames"} <= set(light)
    probe = subprocess.run([sys.executable, "-c", PROBE, *light], capture_output=True, text=True)
    assert (probe.stdout, probe.stderr, probe.returncode) == ("", "", 0)


ENGINES = {"ray", "vllm", "torch", "transformers", "datasets", "deepspeed", "peft"}
FIGURES = {"scipy", "matplotlib", "pandas"}
ARRAYS = {"numpy", "pyarrow"}
COMMAND = "from s2d_ray.cli import main; main()"


@pytest.mark.parametrize(
    ("program", "arguments", "heavy"),
    [
        ("import s2d_ray", [], ENGINES | FIGURES | ARRAYS | {"pydantic", "typer"}),
        (COMMAND, ["--help"], ENGINES | FIGURES | ARRAYS | {"pydantic"}),
        (COMMAND, ["recipes"], ENGINES | FIGURES | ARRAYS),
        (COMMAND, ["show", "s2a-geonames"], ENGINES | FIGURES),
    ],
)
def test_what_is_quick_loads_nothing_heavy(program: str, arguments: list[str], heavy: set[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "s2d_ray" in loaded
    assert not loaded & heavy
