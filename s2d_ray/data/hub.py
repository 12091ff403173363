"""Models on the Hugging Face hub: named by their commit, so that every machine fetches the same one by itself.

The files lie in huggingface_hub's own cache (HF_HOME), which is the user's: nothing is ever removed there. Each machine
finds its token by itself, in HF_TOKEN or where `hf auth login` has left it; none passes through a name or a job.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from s2d_ray.data.storage import ElsewherePath
from s2d_ray.errors import UserError

WEIGHTS = ("*.safetensors",)
DESCRIPTION = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
"""Configuration, chat template and tokenizer (some keep theirs in vocab.txt and merges.txt)."""
CODE = ("*.py",)
"""What `trust_remote_code` lets run."""
PLAIN, TRUSTED = "hub", "hub+code"
"""Schemes of addresses."""
COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")


class HubFile(NamedTuple):
    """A file of a model at a commit, as the hub lists it."""

    size: int
    """In bytes."""
    oid: str
    """Of git: the same for the same content. Of a large file, it is the one of its pointer."""


class HubPath(ElsewherePath):
    """A model on the hub at one commit, or a file of it. Only what is read of it is fetched.

    Raises UserError where the hub does not let in, or cannot be reached and the file is not in this machine's cache.
    """

    schemes = PLAIN, TRUSTED

    @classmethod
    def of(cls, name: str, commit: str, with_code: bool = False) -> "HubPath":
        """The folder of a model; `with_code` has the Python code that it brings."""
        return cls(f"{TRUSTED if with_code else PLAIN}:", name, commit)

    @property
    def _depth(self) -> int:
        """Where in its parts the commit stands."""
        return next(place for place, part in enumerate(self.parts) if COMMIT.fullmatch(part))

    @property
    def model(self) -> str:
        """Its name on the hub."""
        return "/".join(self.parts[1 : self._depth])

    @property
    def commit(self) -> str:
        """The version of the model."""
        return self.parts[self._depth]

    @property
    def inside(self) -> str:
        """The file's name within the model; empty for the model itself."""
        return "/".join(self.parts[self._depth + 1 :])

    @property
    def _patterns(self) -> list[str]:
        return [*WEIGHTS, *self._describing]

    @property
    def _describing(self) -> list[str]:
        return [*DESCRIPTION, *(CODE if self.parts[0] == f"{TRUSTED}:" else ())]

    def files(self) -> Mapping[str, HubFile]:
        """The files of the whole model by their names, those that nothing loads left out."""
        found = _listing(self.model, self.commit)
        return {name: file for name, file in found.items() if any(fnmatchcase(name, p) for p in self._patterns)}

    def is_file(self) -> bool:
        return self.inside in self.files()

    def is_dir(self) -> bool:
        return not self.inside or any(name.startswith(f"{self.inside}/") for name in self.files())

    def iterdir(self) -> Generator["HubPath", None, None]:
        within = f"{self.inside}/" if self.inside else ""
        below = (name.removeprefix(within) for name in self.files() if name.startswith(within))
        return (self / name for name in sorted({name.partition("/")[0] for name in below}))

    def glob(self, pattern: str) -> Generator["HubPath", None, None]:
        """What matches in the folder itself."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def open(self, mode: str = "r", *options: Any, **more: Any) -> Any:
        return self.fetched().open(mode, *options, **more)

    def read_bytes(self) -> bytes:
        return self.fetched().read_bytes()

    def fetched(self, weights: bool = True) -> Path:
        """The same file or folder on this machine, downloaded once for all processes (huggingface_hub locks each file).

        Without `weights` a folder may lack them: enough to read the configuration and to load the tokenizer.
        """
        from huggingface_hub import hf_hub_download, snapshot_download

        with hub_errors(self.model, self.commit):
            if self.inside:
                return Path(hf_hub_download(self.model, self.inside, revision=self.commit))
            patterns = self._patterns if weights else self._describing
            return Path(snapshot_download(self.model, revision=self.commit, allow_patterns=patterns))


def commit_of(name: str, revision: str | None) -> str:
    """The commit that a branch or tag (the default branch for None) is at now, or was when it was last looked up here.

    Raises UserError as `hub_errors` says.
    """
    from huggingface_hub import HfApi

    with hub_errors(name, revision):
        return str(HfApi().resolve_revision(name, revision=revision).resolved)


@contextmanager
def hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Raise as UserError, in one line, why the hub does not give a model."""
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import HfHubHTTPError

    hub = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"model {name} is gated: agree to its licence at {hub}/{name}, and give every machine a token of that "
            "account (HF_TOKEN in its environment, or `hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model {name} has no revision {revision} at {hub}: change model_revision") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"no model {name}: it is neither a folder here nor at {hub}; a private one needs HF_TOKEN on every machine"
        ) from error
    except _unreachable() as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            reason = f"{hub} does not let in: look at HF_TOKEN and what it allows"
        else:
            reason = f"{hub} is out of reach ({type(error).__name__}), and this machine's HF_HOME lacks it"
        raise UserError(f"cannot get model {name}: {reason}") from error


def _unreachable() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where the hub gives nothing; another OSError is of this machine's disk."""
    from httpx2 import HTTPError
    from huggingface_hub import errors

    # What transfers large files raises RuntimeError.
    missing = errors.LocalEntryNotFoundError, errors.RevisionResolutionError, errors.FileMetadataError
    return HTTPError, errors.OfflineModeIsEnabled, *missing, RuntimeError


@cache
def _listing(name: str, commit: str) -> Mapping[str, HubFile]:
    """All files of a model: from this machine's cache where they are known there, else from the hub."""
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(name, commit):
        try:
            found = get_cached_repo_tree(name, revision=commit)
        except CachedRepoTreeNotFoundError:
            try:
                tree = HfApi().list_repo_tree(name, revision=commit, recursive=True)
                found = [file for file in tree if isinstance(file, RepoFile)]
            except _unreachable() as error:
                if cached := _cached(name, commit):
                    return cached
                raise error
    return {file.path: HubFile(file.size, file.blob_id) for file in found}


def _cached(name: str, commit: str) -> Mapping[str, HubFile]:
    """What the hub would list, by the cache: a file there is a link to another that is named by its content.

    Nothing where there is no such model in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, revision=commit, local_files_only=True))
    except LocalEntryNotFoundError:
        return {}
    return {
        str(file.relative_to(snapshot)): HubFile(file.stat().st_size, _oid(file))
        for file in snapshot.rglob("*")
        if file.is_file()
    }


def _oid(link: Path) -> str:
    """Git's name for a file in the cache, which is named by it, or by its SHA-256 where git has a pointer only."""
    name = Path(os.readlink(link)).name
    if not SHA256.fullmatch(name):
        return name
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {link.stat().st_size}\n"
    return sha1(f"blob {len(pointer)}\0{pointer}".encode()).hexdigest()
