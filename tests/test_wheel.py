"""The wheel is the whole package: installed anywhere, it has its data and its command works."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from s2d_ray.recipes.load import shipped_recipes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
NOT_SHIPPED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders beside what it builds."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "s2d_ray", source / "s2d_ray", ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", built, source], check=True)
    [found] = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """What a program of an environment prints that has the wheel, and all other packages from the one of the tests."""
    environment, elsewhere = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    # Found after the environment's own, and without the .pth file by which the tests' environment finds this tree.
    packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([*PIP, "--python", environment / "bin" / "python", "install", "--no-deps", wheel], check=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str) -> str:
        command = [str(environment / "bin" / program), *arguments]
        ended = subprocess.run(command, cwd=elsewhere, env=variables, capture_output=True, text=True, timeout=120)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    return run


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    folder = ROOT / "s2d_ray"
    here = {path.relative_to(ROOT) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {"py.typed", "s2a-geonames.yaml", "report.html.j2", "names.txt"} <= {path.name for path in here}
    with ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    assert {path for path in names if path.parts[0] == "s2d_ray"} == here
    assert [path for path in names if path.name == "LICENSE"]


def test_the_installed_package_is_not_the_one_of_this_tree(installed: Callable[..., str]) -> None:
    where = Path(installed("python", "-c", "import s2d_ray; print(s2d_ray.__file__)").strip())
    assert ROOT not in where.parents
    assert where.parent.parent.name == "site-packages"


def test_the_installed_command_lists_and_shows_the_recipes(installed: Callable[..., str]) -> None:
    listed = dict(line.split(maxsplit=1) for line in installed("s2d", "recipes").splitlines())
    assert listed == shipped_recipes()
    assert yaml.safe_load(installed("s2d", "show", "s2a-geonames"))["task"]["kinds"]
    assert " recipes " in installed("s2d", "--help")
