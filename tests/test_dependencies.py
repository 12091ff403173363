"""What is imported is declared, the locks have it with hashes, and what they have not is not installed."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from s2d_ray.doctor import read_lock

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OPTIONAL = {"bitsandbytes", "lm_eval"}
"""Used where a person has installed them."""
OURS = {"s2d_ray", "tests", "jobs"}
HASHED = re.compile(r"[\w.-]+==[\w.+]+( --hash=sha256:[0-9a-f]{64})+")


def requirements(*extras: str) -> list[Requirement]:
    return [
        Requirement(line) for line in (*PROJECT["dependencies"], *(line for name in extras for line in EXTRAS[name]))
    ]


def imported(folder: Path) -> Iterator[str]:
    """The packages that modules in a folder import."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("s2d_ray", ("cpu", "gpu")), ("jobs", ("cpu", "gpu", "dev")), ("tests", tuple(EXTRAS)), (".ci", tuple(EXTRAS))],
)
def test_every_package_that_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements(*extras)}
    homes = packages_distributions()
    packages = set(imported(ROOT / folder)) - sys.stdlib_module_names - OPTIONAL - OURS
    assert packages
    assert {p for p in packages if not declared & {canonicalize_name(home) for home in homes.get(p, [])}} == set()


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_lock_has_hashes_for_all_that_is_declared(kind: str) -> None:
    lock = ROOT / f"lock-{kind}.txt"
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not HASHED.fullmatch(line)] == []
    pinned = {canonicalize_name(name): version for name, version in read_lock(lock).items()}
    assert len(pinned) == len(lines)
    for requirement in requirements(kind, "dev"):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True)


def test_the_installation_refuses_what_has_another_hash(tmp_path: Path) -> None:
    """By the script's own function, into a folder, from wheels on this disk."""
    wheel = tmp_path / "wheels" / "thing-1.0-py3-none-any.whl"
    build_wheel(wheel)
    script = (ROOT / ".ci" / "install.sh").read_text()
    [pip] = re.findall(r"^locked\(\).*?^}", script, re.MULTILINE | re.DOTALL)
    digest = subprocess.run(["sha256sum", wheel], capture_output=True, text=True, check=True).stdout.split()[0]
    for number, stated in enumerate((digest, digest[::-1])):
        lock, target = tmp_path / f"lock-{number}.txt", tmp_path / f"target-{number}"
        lock.write_text(f"thing==1.0 --hash=sha256:{stated}\n")
        command = f"{pip}\nlocked --no-index --find-links {wheel.parent} --target {target} -r {lock}"
        ended = subprocess.run(
            ["bash", "-euc", command], env={"python": sys.executable, "PATH": "/usr/bin:/bin"}, capture_output=True
        )
        assert (ended.returncode == 0) == (stated == digest) == (target / "thing.py").exists()


def build_wheel(file: Path) -> None:
    """A wheel of one empty module."""
    from zipfile import ZipFile

    file.parent.mkdir()
    with ZipFile(file, "w") as archive:
        archive.writestr("thing.py", "")
        about = "thing-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"thing.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
