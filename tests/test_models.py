"""Which folders are models, and what tells two of them apart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2d_ray.errors import UserError
from s2d_ray.models import EMBEDDED, Model, resolve_model

MIB = 2**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "tokenizer_config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(4 * MIB))
    return model


def identity(folder: Path) -> str:
    return Model.local("any", folder).identity


def test_a_folder_is_a_model_by_its_path(folder: Path) -> None:
    model = resolve_model(str(folder))
    assert (model.name, model.folder) == (str(folder), folder)
    assert model.identity == identity(folder)


def test_what_is_no_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        resolve_model(str(tmp_path / "file"))
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/nowhere/at/all"):
        with pytest.raises(UserError, match=f"no model folder {name}"):
            resolve_model(name)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer_config.json"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"is not a Hugging Face model folder: it has no {missing}"):
        resolve_model(str(folder))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "optimizer.safetensors").touch()
    with pytest.raises(UserError, match=r"has no model\*\.safetensors; pickled weights are not loaded"):
        resolve_model(str(folder))


def test_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter: merge it into its base model first"):
        resolve_model(str(folder))


@pytest.mark.parametrize("place", [0, 2 * MIB + 12_345, 4 * MIB - 1])
def test_other_weights_have_another_identity_wherever_they_differ(folder: Path, place: int) -> None:
    before = identity(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[place] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert identity(folder) != before


def test_of_a_very_large_file_blocks_from_the_first_to_the_last_decide(folder: Path) -> None:
    size = 2**30 + 3 * MIB
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.truncate(size)  # sparse: takes no room on the disk
    seen = [identity(folder)]
    for place in (0, size // 63 * 30 + MIB // 2, size - 1):
        with (folder / "model.safetensors").open("r+b") as weights:
            weights.seek(place)
            weights.write(b"1")
        seen.append(identity(folder))
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "vocab.txt"]
)
def test_another_tokenizer_or_configuration_has_another_identity(folder: Path, name: str) -> None:
    (folder / name).write_text('{"a": 1}')
    before = identity(folder)
    (folder / name).write_text('{"a": 2}')
    assert identity(folder) != before


def test_the_place_and_the_papers_of_a_model_are_not_its_identity(folder: Path, tmp_path: Path) -> None:
    before = identity(folder)
    (folder / "README.md").write_text("About")
    assert identity(folder) == before
    assert identity(folder.rename(tmp_path / "elsewhere")) == before


FIRST_RUN = """
import sys
from s2d_ray.models import EMBEDDED, resolve_model
print("ready", flush=True)
sys.stdin.readline()
print(resolve_model(EMBEDDED).folder.stat().st_ino)
"""


@pytest.mark.long
def test_of_several_first_runs_at_once_one_converts_the_embedded_model(tmp_path: Path) -> None:
    environment = os.environ | {"S2D_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_RUN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    folder = tmp_path / "cache" / EMBEDDED
    # One that converts it again makes another folder.
    assert {process.communicate()[0] for process in processes} == {f"{folder.stat().st_ino}\n"}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert not list(folder.parent.glob("*.partial"))
