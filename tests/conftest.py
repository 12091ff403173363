"""What several tests need: a tiny model, and a local Ray that is stopped again."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2d_ray.data import buckets, outages
from s2d_ray.data.storage import RemotePath
from s2d_ray.devices import gpu_names
from tests.object_storage import s3_server
from tests.proxy import Proxy, proxy_to
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random model that vLLM, transformers and peft load."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def unread_model(tmp_path: Path) -> Path:
    """Folder that has the files of a model, for what does not read them."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray for the tests of a module."""
    from s2d_ray.stages.cluster import joined

    with joined(tmp_path_factory.mktemp("logs")):
        yield


@pytest.fixture(scope="module")
def ray_with_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray for the tests of a module that counts GPUs which are not there."""
    from tests.gpus import counted_gpus

    with counted_gpus(tmp_path_factory.mktemp("logs")):
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real S3 server on this machine, with what the environment needs to reach it; the log of its requests."""
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with s3_server(log):
        yield log


@pytest.fixture
def remote(s3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    """A folder in object storage, and a cache of its own for copies."""
    monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
    return RemotePath("s3:", "results", tmp_path.name)


@pytest.fixture
def proxy(remote: RemotePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before the storage that `remote` is in, for what this process asks of it."""
    with proxy_to(os.environ["AWS_ENDPOINT_URL"]) as (found, address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setattr(outages, "_seen", float("-inf"))
        for cached in (buckets.store, buckets.file_system):
            cached.cache_clear()
        yield found
    for cached in (buckets.store, buckets.file_system):
        cached.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, and other rules for the heavy ones.

    Ray changes how a process sees signals and its children's ends, so what tests those has to come before it.
    Warnings are errors for our own code; Ray, vLLM and DeepSpeed warn about themselves and each other.
    """
    items.sort(key=_is_heavy)
    for item in items:
        if _is_heavy(item):
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs a GPU is skipped where there is none."""
    if item.get_closest_marker("gpu") and not gpu_names():
        pytest.skip("no NVIDIA GPU on this machine")


def _is_heavy(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("ray", "engine", "train", "gpu"))
