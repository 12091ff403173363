"""Models on the hub, by name and commit: what is fetched and when, on a stand-in for the hub."""

import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s2d_ray.data.copies import local_copy
from s2d_ray.data.hub import HubPath, commit_of
from s2d_ray.errors import UserError
from s2d_ray.models import HUB_IDENTITY, Model, resolve_model
from s2d_ray.planning.shapes import shape_of
from tests.hub import TOKEN, Hub, forget, known_here, serving
from tests.serving.gateways import served_recipe

NAME = "somebody/a-model"
WEIGHTS = "model-00001-of-00001.safetensors"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder that has the files of a model, and others."""
    folder = tmp_path / "files"
    (folder / "onnx").mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json", "merges.txt", WEIGHTS, "model.bin", "code.py", "onnx/x.json"):
        (folder / name).write_text(f"the {name}")
    return folder


@pytest.fixture
def hub(tmp_path: Path, files: Path) -> Iterator[Hub]:
    """A hub with that model, and no cache of it."""
    with serving() as found, known_here(found, tmp_path / "home"):
        found.push(NAME, files)
        yield found


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_its_name_and_commit_and_no_weights_are_fetched_to_name_it(hub: Hub) -> None:
    model = resolve_model(NAME)
    assert isinstance(model.folder, HubPath)
    assert (model.name, model.folder.model, model.folder.commit) == (NAME, NAME, commit_of(NAME, None))
    assert len(hub.downloads("config.json")) == 1
    assert not hub.downloads(WEIGHTS) and not hub.downloads("model.bin")


def test_a_machine_fetches_the_weights_once_for_all_that_ask_at_once(hub: Hub, tmp_path: Path) -> None:
    folder = resolve_model(NAME).folder
    with ThreadPoolExecutor(4) as pool:
        [copy] = set(pool.map(lambda _: local_copy(folder), range(4)))
    assert (copy / WEIGHTS).read_text() == f"the {WEIGHTS}"
    assert names(copy) == {"config.json", "tokenizer_config.json", "merges.txt", WEIGHTS, "onnx/x.json"}
    assert copy.is_relative_to(tmp_path / "home" / "hub")
    assert len(hub.downloads(WEIGHTS)) == 1


def test_code_is_fetched_where_it_is_trusted_only_and_makes_another_model(hub: Hub, files: Path) -> None:
    plain = resolve_model(NAME)
    assert "code.py" not in names(local_copy(plain.folder))
    trusted = resolve_model(NAME, trust_remote_code=True)
    assert (local_copy(trusted.folder) / "code.py").read_text() == "the code.py"
    (files / "code.py").write_text("other code")
    hub.push(NAME, shutil.copytree(files, files.with_name("later")))
    assert resolve_model(NAME).identity == plain.identity
    assert resolve_model(NAME, trust_remote_code=True).identity != trusted.identity


def test_it_can_be_asked_for_its_files_as_a_folder_can(hub: Hub) -> None:
    folder = resolve_model(NAME).folder
    assert folder.is_dir() and (folder / "onnx").is_dir() and not folder.is_file()
    assert (folder / "config.json").is_file() and not (folder / "none.json").exists()
    assert (folder / "config.json").read_text() == "the config.json"
    assert [path.name for path in folder.glob("model*.safetensors")] == [WEIGHTS]
    assert [path.name for path in (folder / "onnx").iterdir()] == ["x.json"]
    assert pickle.loads(pickle.dumps(folder)) == folder == folder.resolve()
    assert local_copy(folder / "merges.txt").read_text() == "the merges.txt"
    with pytest.raises(TypeError, match="no path on this machine"):
        os.listdir(folder)


def test_other_weights_tokenizer_or_configuration_are_another_model_and_papers_are_not(hub: Hub, files: Path) -> None:
    seen = {resolve_model(NAME).identity}
    for name in (WEIGHTS, "config.json", "merges.txt"):
        files = shutil.copytree(files, files.with_name(f"with-other-{name}"))
        (files / name).write_text(f"THE {name}")  # As long as before.
        hub.push(NAME, files)
        seen.add(resolve_model(NAME).identity)
    assert len(seen) == 4 and all(identity.startswith(HUB_IDENTITY) for identity in seen)
    files = shutil.copytree(files, files.with_name("with-papers"))
    (files / "README.md").write_text("About")
    hub.push(NAME, files)
    assert resolve_model(NAME).identity in seen


def test_what_is_in_the_cache_is_had_without_the_hub_and_is_the_same_model(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resolve_model(NAME)
    copy = local_copy(model.folder)
    asked = len(hub.requests)
    for setting, value in (("HF_HUB_OFFLINE", True), ("ENDPOINT", "http://127.0.0.1:9")):
        with monkeypatch.context() as patched:
            patched.setattr(f"huggingface_hub.constants.{setting}", value)
            forget()
            assert resolve_model(NAME) == model and local_copy(model.folder) == copy
    assert len(hub.requests) == asked


def test_a_cache_that_another_tool_has_filled_names_the_same_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resolve_model(NAME)
    copy = local_copy(model.folder)
    shutil.rmtree(copy.parents[1] / "trees")  # What only huggingface_hub's newer versions write.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forget()
    assert resolve_model(NAME) == model


def test_a_branch_that_moves_leaves_its_commits_as_they_are(hub: Hub, files: Path) -> None:
    before = resolve_model(NAME)
    later = shutil.copytree(files, files.with_name("later"))
    (later / "config.json").write_text("later")
    commit = hub.push(NAME, later)
    assert isinstance(before.folder, HubPath)
    assert resolve_model(NAME).folder == HubPath.of(NAME, commit) != before.folder
    assert resolve_model(NAME, before.folder.commit) == before
    assert (local_copy(before.folder) / "config.json").read_text() == "the config.json"


def test_the_identity_by_bytes_is_that_of_the_folder(hub: Hub, files: Path) -> None:
    (files / "code.py").unlink()
    assert resolve_model(NAME).identified_by_bytes.identity == Model.local("here", files).identity


def test_a_model_of_a_closed_hub_takes_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME].gated = True
    said = f"model {NAME} is gated: agree to its licence at {hub.url}/{NAME}, and give every machine.*HF_TOKEN"
    with pytest.raises(UserError, match=said):
        resolve_model(NAME)
    with known_here(hub, tmp_path / "other", TOKEN):
        assert (local_copy(resolve_model(NAME).folder) / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("somebody/no-model", None, "no model somebody/no-model: it is neither a folder here nor at http"),
        ("a/b/c", None, "no model a/b/c: it is neither a folder here nor at http"),
        ("no model of that name", None, "no model no model of that name: it is neither a folder here nor at http"),
        (NAME, "none", f"model {NAME} has no revision none at http.*: change model_revision"),
        (NAME, 40 * "0", f"model {NAME} has no revision {40 * '0'} at http.*: change model_revision"),
    ],
)
def test_what_the_hub_does_not_have_is_one_clear_line(hub: Hub, name: str, revision: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        resolve_model(name, revision)
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_is_one_clear_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve_model(NAME).folder
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    forget()
    said = "cannot get model somebody/.*: http://127.0.0.1:9 is out of reach"
    with pytest.raises(UserError, match=said) as caught:
        resolve_model("somebody/other")
    assert "\n" not in str(caught.value)
    # Else it is tried again for a while.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=said) as caught:
        local_copy(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_plan_for_it_is_made_without_its_weights(hub: Hub, tmp_path: Path, tiny_model: Path) -> None:
    hub.push(NAME, tiny_model)
    asked, here = (shape_of(served_recipe(model=model), None) for model in (NAME, str(tiny_model)))
    assert asked == here
    assert here.parameters > 50_000
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_without_weights_that_can_be_loaded_it_is_refused_before_anything_is_fetched(hub: Hub, files: Path) -> None:
    (files / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"has no model\*\.safetensors; pickled weights are not loaded"):
        resolve_model(NAME)
    assert not hub.downloads("config.json")
