"""A stage's output: a folder with Parquet parts, then a manifest, written last.

The folder remembers what it was made from. The same inputs: a finished folder is reused and an unfinished
one resumed, as is one that has lost parts. Other inputs: refused with the difference, unless the caller asks to start
over.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from s2d_ray.data.contents import Difference, contents_of, difference_in
from s2d_ray.data.files import Damaged, make_folder, read_json, write_json
from s2d_ray.data.manifests import Manifest
from s2d_ray.data.storage import remove
from s2d_ray.errors import UserError
from s2d_ray.terminal import console

INPUTS = "inputs.json"
MANIFEST = "manifest.json"

Json = Mapping[str, Any]
M = TypeVar("M", bound=Manifest)


class Watcher(Protocol):
    """Who is told of work on artifacts: the attempt that owns the run's folder."""

    def begun(self, path: Path) -> None:
        """An unfinished artifact was opened."""

    def finishing(self) -> None:
        """Its manifest is about to be written. Raises where it must not be."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """While the block runs `watcher` is told of work on artifacts."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@dataclass(frozen=True)
class Artifact(Generic[M]):
    """One stage's folder and what it is made from."""

    path: Path
    inputs: Json
    """Everything that changes the results (model, method, sampling, data), never placement. It is hashed and compared
    as a whole, so it has no schema version: a new key with another value than null is another input."""
    kind: type[M]
    """The manifest that its stage writes."""

    @classmethod
    def existing(cls, path: Path, kind: type[M]) -> "Artifact[M]":
        """What an earlier stage left. Raises UserError where it has not finished."""
        artifact = cls(path, read_inputs(path), kind)
        assert artifact.manifest
        return artifact

    def open(self, overwrite: bool = False) -> bool:
        """Make the folder ready to be written to; True where it is finished already.

        Where it has other parts than its manifest says, or the manifest cannot be read, it is not any more.
        Raises UserError where the folder holds results of other inputs, or cannot be written.
        """
        try:
            if overwrite and self.path.is_dir():
                self._discard()
            make_folder(self.path)
            if not (self.path / INPUTS).exists():
                write_json(self.path / INPUTS, self.inputs)
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another folder with --root"
            ) from error
        self._refuse_others()
        if self.finished and (damage := self._damage):
            console.print(f"{self.path} {damage.what}: {damage.mend}", markup=False)
            (self.path / MANIFEST).unlink()
        if not self.finished and (watcher := _watcher.get()):
            watcher.begun(self.path)
        return self.finished

    def require(self) -> None:
        """Raises UserError unless the folder is there, finished, whole, and made from these inputs."""
        if not self.finished:
            raise UserError(f"{self.path} is not finished: run the stage that makes it first (`s2d run` runs them all)")
        self._refuse_others("run the stage that makes it with --overwrite")
        if damage := self._damage:
            raise UserError(f"{self.path} {damage.what}: run the stage that makes it again (`s2d run` runs them all)")

    def _refuse_others(self, mend: str = "pass --overwrite to start this stage over") -> None:
        if changes := self.changes:
            raise UserError(f"{self.path} was made by a different recipe ({changes}); choose another --root, or {mend}")

    @property
    def changes(self) -> str:
        """How what the folder was made from differs from these inputs; empty where it does not."""
        return "; ".join(differences(read_inputs(self.path), json.loads(json.dumps(self.inputs))))

    @property
    def _damage(self) -> Difference | None:
        """How a finished folder differs from what its manifest says; None where it is whole."""
        try:
            contents = self.manifest.contents
        except Damaged:
            return Difference("has a manifest that cannot be read", missing=True)
        return difference_in(self.path, contents) if contents else None

    def _discard(self) -> None:
        # A crash on the way must not leave half of the old results to go on from.
        write_json(self.path / INPUTS, {"discarded": True})
        for path in self.path.iterdir():
            if path.name != INPUTS:
                remove(path)
        (self.path / INPUTS).unlink()

    @property
    def fingerprint(self) -> str:
        """A short name for the inputs, for the inputs of the stage that builds on this one."""
        return blake2b(json.dumps(self.inputs, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def finished(self) -> bool:
        """Whether the manifest is there."""
        return (self.path / MANIFEST).exists() and (self.path / INPUTS).exists()

    @property
    def manifest(self) -> M:
        """What the stage wrote about itself.

        Raises UserError where the stage has not finished, or another version wrote what this one cannot read.
        """
        if not self.finished:
            raise UserError(f"{self.path} is not finished: run the stage that makes it first (`s2d run` runs them all)")
        return self.kind.read(self.path / MANIFEST)

    def finish(self, manifest: M) -> None:
        """Write the manifest: from now on the folder counts as complete.

        Raises UserError where another attempt has taken over the run.
        """
        if watcher := _watcher.get():
            watcher.finishing()
        contents = contents_of(self.path)
        said = {"inputs": self.inputs, "contents": contents if contents.rows else None}
        write_json(self.path / MANIFEST, manifest.model_copy(update=said).to_json())


def read_inputs(folder: Path) -> Json:
    """What a stage's folder was made from; empty where it does not say. Raises Damaged."""
    path = folder / INPUTS
    try:
        inputs: Json = read_json(path) if path.exists() else {}
    except Damaged as error:
        # Not to be removed: the results would be taken for those of any inputs.
        raise Damaged(f"{path} is damaged ({error.__cause__}): bring it back, or pass --overwrite") from error
    return inputs


def differences(found: Json, wanted: Json, prefix: str = "") -> Iterator[str]:
    """Each key whose value differs, as `key: found → wanted`."""
    for key in sorted({*found, *wanted}):
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}: {_short(a)} there, {_short(b)} now"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
