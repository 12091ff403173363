"""What stages and attempts that a test stands in for say about themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import write_json
from s2d_ray.data.manifests import (
    CandidatesManifest,
    CorpusManifest,
    DistilledManifest,
    EvaluationManifest,
    GeneralManifest,
    Manifest,
    ModelManifest,
    VoteShares,
)

CORPUS = CorpusManifest(rows=3, source="made up", digest="d")
MODEL = ModelManifest(examples=166, steps=21, tokens=900, tokens_per_second=30.0, seconds=30.0)

EVALUATION = EvaluationManifest(rows=3, arms=("system1", "system2", "distilled"), seconds=5.0)


GENERAL = GeneralManifest(rows=0, known=0, max_tokens=64, model_loads=2, seconds=5.0)


def candidates_manifest(rows: int = 0, seconds: float = 1.0) -> CandidatesManifest:
    """Of so many prompts, none of which failed."""
    return CandidatesManifest(rows=rows, failed=0, generated_now=rows, resumed=0, tokens_now=0, seconds=seconds)


def distilled_manifest(kept: int = 0, rows: int | None = None, **others: Mapping[str, int]) -> DistilledManifest:
    """Of so many pairs, all of the prompts where no other number is given; `others` are rejected and failed ones."""
    counts: dict[str, Any] = {"rejected": {}, "failed": {}, **others}
    whole = kept if rows is None else rows
    shares = VoteShares(kept={}, rejected={})
    return DistilledManifest(rows=whole, kept=kept, **counts, vote_shares=shares, seconds=1.0)


def finish(artifact: Artifact[Any]) -> None:
    """Open it and write its manifest, of no prompts but of a model."""
    made: list[Manifest] = [CORPUS, candidates_manifest(), distilled_manifest(), MODEL, EVALUATION, GENERAL]
    artifact.open()
    artifact.finish(next(manifest for manifest in made if type(manifest) is artifact.kind))


def write_lease(run: Path, work: Mapping[str, Mapping[str, float]], number: int = 1, **about: Any) -> Path:
    """The file of an attempt on another machine that spent this time on artifacts; it is at work still."""
    file = run / "attempts" / f"{number:05}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    who = {"attempt": number, "host": "far", "machine": "far", "process": 7, "state": "running"}
    when = dict.fromkeys(("began", "seen"), "2026-01-01T00:00:00Z")
    write_json(file, {**who, **when, "work": work, **about})
    return file
