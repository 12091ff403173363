"""What stages write about themselves: read back as it was, from older versions too, and never misread."""

import math
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import INPUTS, MANIFEST, Artifact
from s2d_ray.data.files import read_json, write_json
from s2d_ray.data.manifests import KINDS, OTHER, DistilledManifest, EvaluationManifest, Manifest, ModelManifest
from s2d_ray.errors import UserError
from tests.manifests import CORPUS, EVALUATION, MODEL, candidates_manifest, distilled_manifest

OLD = {
    "rows": 4,
    "kept": 1,
    "rejected": {"no majority": 1},
    "failed": {"ValueError: Who is John?": 1, "ValueError: Who is Mary?": 1},
    "vote_shares": {"kept": {"1.00": 1}, "rejected": {"0.50": 1}},
    "seconds": 2.0,
    "finished": "2026-01-01T00:00:00+00:00",
    "inputs": {"candidates": "abc", "script": None},
    "versions": {"python": "3.11.9"},
}
"""As it was written before files had a schema version."""


def distilled(folder: Path, content: dict[str, Any]) -> Artifact[DistilledManifest]:
    """A finished folder with this manifest."""
    folder.mkdir(exist_ok=True)
    write_json(folder / INPUTS, {})
    write_json(folder / MANIFEST, content)
    return Artifact(folder, {}, DistilledManifest)


@pytest.mark.parametrize("manifest", [CORPUS, candidates_manifest(3), distilled_manifest(3, 5), MODEL, EVALUATION])
def test_what_was_written_is_read_back(tmp_path: Path, manifest: Manifest) -> None:
    made = Artifact(tmp_path, {"script": None, "stop": ["x"]}, type(manifest))
    made.open()
    made.finish(manifest)
    assert made.manifest == manifest.model_copy(update={"inputs": {"script": None, "stop": ["x"]}})
    assert read_json(tmp_path / MANIFEST)["schema_version"] == 1


def test_one_of_before_the_schema_version_is_read_and_its_texts_are_grouped(tmp_path: Path) -> None:
    found = distilled(tmp_path, OLD).manifest
    assert (found.rows, found.kept, found.vote_shares.kept) == (4, 1, {"1.00": 1})
    assert found.failed == {"ValueError": 2}
    assert found.inputs == OLD["inputs"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version is 2, and not 1"),
        ({"kept": None}, "kept: Input should be a valid integer"),
        ({"pairs": 3}, "unknown key pairs"),
    ],
)
def test_one_of_another_form_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    artifact = distilled(tmp_path, OLD | change)
    with pytest.raises(UserError) as caught:
        _ = artifact.manifest
    assert f"{tmp_path / MANIFEST}: {said}" in str(caught.value)
    assert str(caught.value).endswith("another version of s2d wrote it: go on with that one, or choose another --root")
    assert "\n" not in str(caught.value)


def test_reasons_are_counted_by_kind_and_the_rarest_added_up() -> None:
    def of(reasons: dict[str, int]) -> dict[str, int]:
        return distilled_manifest(failed=reasons).failed

    lengths = {f"the prompt has {n} tokens": 1 for n in (900, 901)}
    assert of({"ValueError: a": 1, "ValueError: b": 2, **lengths}) == {"ValueError": 3, "the prompt has N tokens": 2}
    many = {f"Error{'x' * n}: text": n for n in range(1, 101)}
    found = of(many)
    assert len(found) == KINDS + 1
    assert next(iter(found.items())) == (f"Error{'x' * 100}", 100)
    assert list(found.items())[-1] == (OTHER, sum(range(1, 81)))
    assert of(found) == found, "they are grouped again when they are read"


def test_a_training_that_diverged_has_a_manifest_too(tmp_path: Path) -> None:
    made = Artifact(tmp_path, {}, ModelManifest)
    made.open()
    made.finish(ModelManifest(**MODEL.model_dump() | {"last_loss": math.nan}))
    assert math.isnan(made.manifest.last_loss or 0.0)


def test_a_manifest_of_another_stage_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    distilled(tmp_path, OLD)
    with pytest.raises(UserError, match="unknown key"):
        _ = Artifact(tmp_path, {}, EvaluationManifest).manifest
