"""A stage's folder: reused, resumed or refused, and complete only with its manifest."""

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.data.artifacts import INPUTS, MANIFEST, Artifact, Json, differences
from s2d_ray.data.contents import Contents, write_stamped
from s2d_ray.data.files import part_files, read_batches, read_json, read_json_lines, read_rows, write_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.errors import UserError
from tests.manifests import CORPUS

WANTED = {"model": {"name": "a", "identity": "1"}, "samples": 4, "stop": ("x",), "script": None}


def corpus(path: Path, inputs: Json) -> Artifact[CorpusManifest]:
    return Artifact(path, inputs, CorpusManifest)


def test_a_new_folder_is_made_and_is_unfinished(tmp_path: Path) -> None:
    artifact = corpus(tmp_path / "a" / "b", WANTED)
    assert artifact.open() is False
    assert not artifact.finished
    assert read_json(artifact.path / INPUTS) == json.loads(json.dumps(WANTED))


def test_the_same_inputs_resume_what_is_unfinished(tmp_path: Path) -> None:
    corpus(tmp_path, WANTED).open()
    (tmp_path / "part-0.parquet").touch()
    assert corpus(tmp_path, WANTED).open() is False
    assert (tmp_path / "part-0.parquet").exists()


def test_the_same_inputs_reuse_what_is_finished(tmp_path: Path) -> None:
    first = corpus(tmp_path, WANTED)
    first.open()
    first.finish(CORPUS)
    assert corpus(tmp_path, dict(reversed(WANTED.items()))).open() is True
    assert corpus(tmp_path, WANTED).manifest.rows == 3


def test_parts_without_a_manifest_are_not_results(tmp_path: Path) -> None:
    artifact = corpus(tmp_path, WANTED)
    artifact.open()
    pq.write_table(pa.table({"prompt_id": ["a"]}), tmp_path / "part-0.parquet")
    with pytest.raises(UserError, match="is not finished: run the stage that makes it first"):
        _ = artifact.manifest
    with pytest.raises(UserError, match="is not finished"):
        Artifact.existing(tmp_path, CorpusManifest)
    with pytest.raises(UserError, match="is not finished"):
        Artifact.existing(tmp_path / "nowhere", CorpusManifest)


def test_what_is_finished_is_found_again_with_its_inputs(tmp_path: Path) -> None:
    artifact = corpus(tmp_path, WANTED)
    artifact.open()
    artifact.finish(CORPUS)
    found = Artifact.existing(tmp_path, CorpusManifest)
    assert found.fingerprint == corpus(tmp_path, WANTED).fingerprint
    assert found.manifest.inputs == found.inputs
    assert found.manifest.versions["pyarrow"] == pa.__version__


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (WANTED | {"samples": 5}, "(samples: 4 there, 5 now)"),
        (WANTED | {"model": {"name": "a", "identity": "2"}}, '(model.identity: "1" there, "2" now)'),
        (WANTED | {"seed": 1}, "(seed: null there, 1 now)"),
        ({k: v for k, v in WANTED.items() if k != "stop"}, '(stop: ["x"] there, null now)'),
        (WANTED | {"samples": 5, "seed": 1}, "(samples: 4 there, 5 now; seed: null there, 1 now)"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_inputs_are_refused_with_the_difference(
    tmp_path: Path, now: dict[str, object], difference: str, finished: bool
) -> None:
    first = corpus(tmp_path, WANTED)
    first.open()
    if finished:
        first.finish(CORPUS)
    with pytest.raises(UserError) as caught:
        corpus(tmp_path, now).open()
    assert f"{tmp_path} was made by a different recipe {difference}; choose another --root" in str(caught.value)
    assert first.open() is finished, "a refusal must leave the folder as it was"


def test_a_key_that_is_new_and_null_changes_nothing(tmp_path: Path) -> None:
    assert list(differences({"a": 1}, {"a": 1, "b": None})) == []


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    [line] = differences({"prompt": "x" * 500}, {"prompt": "y"})
    assert len(line) < 100
    assert line.endswith('... there, "y" now')


def finished_with(path: Path, *parts: str) -> Artifact[CorpusManifest]:
    """A finished folder with a part for each word, whose letters are ids."""
    artifact = corpus(path, WANTED)
    artifact.open()
    for number, ids in enumerate(parts):
        write_stamped(path / f"part-{number}.parquet", pa.table({"prompt_id": list(ids)}))
    artifact.finish(CORPUS)
    return artifact


def lose(folder: Path) -> None:
    (folder / "part-1.parquet").unlink()


def double(folder: Path) -> None:
    (folder / "part-2.parquet").write_bytes((folder / "part-1.parquet").read_bytes())


def cut(folder: Path) -> None:
    (folder / "part-1.parquet").write_bytes(b"")


def cut_the_manifest(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose, "has 2 rows where 4 belong"),
        (double, "has 6 rows where 4 belong (part-2.parquet: not as its stage wrote it)"),
        (cut, "has parts that cannot be read (part-1.parquet)"),
        (cut_the_manifest, "has a manifest that cannot be read"),
    ],
)
def test_what_is_not_whole_any_more_is_not_finished(
    tmp_path: Path, damage: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = finished_with(tmp_path, "ab", "cd")
    assert artifact.open() is True
    artifact.require()
    damage(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} {said}: run the stage that makes it again")):
        artifact.require()
    assert artifact.open() is False
    mend = "remove what does not belong there" if damage is double else "what is missing is made anew"
    assert capsys.readouterr().out == f"{tmp_path} {said}: {mend}\n"
    assert not artifact.finished
    assert (tmp_path / "part-0.parquet").exists()


def test_a_folder_of_an_earlier_version_is_taken_as_it_is(tmp_path: Path) -> None:
    artifact = finished_with(tmp_path, "ab", "cd")
    manifest = read_json(tmp_path / MANIFEST)
    assert manifest.pop("contents") == {"rows": 4, "ids": Contents.of("abcd").ids}
    write_json(tmp_path / MANIFEST, manifest)
    lose(tmp_path)
    assert artifact.open() is True


def test_damaged_inputs_are_one_line_and_can_be_overwritten(tmp_path: Path) -> None:
    artifact = finished_with(tmp_path, "ab")
    (tmp_path / INPUTS).write_bytes(b"")
    with pytest.raises(UserError, match=r"inputs\.json is damaged \(.*\): bring it back, or pass --overwrite"):
        artifact.open()
    assert artifact.open(overwrite=True) is False


def test_overwrite_starts_over(tmp_path: Path) -> None:
    first = corpus(tmp_path / "a", WANTED)
    first.open()
    (tmp_path / "a" / "part-0.parquet").touch()
    first.finish(CORPUS)
    second = corpus(tmp_path / "a", WANTED | {"samples": 5})
    assert second.open(overwrite=True) is False
    assert sorted(path.name for path in second.path.iterdir()) == [INPUTS]
    assert read_json(second.path / INPUTS)["samples"] == 5


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/s2d/candidates")):
        with pytest.raises(UserError) as caught:
            corpus(path, WANTED).open(overwrite)
        assert f"cannot write to {path}: " in str(caught.value)
        assert "choose another folder with --root" in str(caught.value)


def test_a_manifest_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, {"rows": 3})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a disk that is full after 1000 bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for name in (MANIFEST, INPUTS):
            with pytest.raises(OSError, match="File too large"):
                write_json(tmp_path / name, {"rows": list(range(1000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_json(tmp_path / MANIFEST) == {"rows": 3}
    assert not (tmp_path / INPUTS).exists()


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"city": "Bogotá"})
    assert (tmp_path / "a.json").read_text() == '{\n  "city": "Bogotá"\n}\n'
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    assert read_json_lines(tmp_path / "a.jsonl") == [{"a": 1}, {"a": 2}]


def test_a_fingerprint_depends_on_what_is_in_it(tmp_path: Path) -> None:
    def name(inputs: dict[str, Any]) -> str:
        return corpus(tmp_path, inputs).fingerprint

    assert name(WANTED) == name(dict(reversed(WANTED.items())))
    assert name(WANTED) != name(WANTED | {"samples": 5})
    assert name(WANTED) == name(json.loads(json.dumps(WANTED)))


def test_only_results_are_parts(tmp_path: Path) -> None:
    names = (
        "b.parquet",
        "a.parquet",
        "status=kept/c.parquet",
        "_checkpoint/d.parquet",
        ".tmp/e.parquet",
        "status=kept/_temporary/f.parquet",
        "_g.parquet",
        ".h.parquet",
        "i.txt",
    )
    for value, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(pa.table({"n": [value, value], "more": ["", ""]}), path)
    found = [str(path.relative_to(tmp_path)) for path in part_files(tmp_path)]
    assert found == ["a.parquet", "b.parquet", "status=kept/c.parquet"]
    assert sum(batch.num_rows for batch in read_batches(tmp_path, ["n"])) == 6
    assert list(read_rows(tmp_path, ["n"])) == [{"n": n} for n in (1, 1, 0, 0, 2, 2)]


def test_parts_are_found_where_a_folder_above_has_a_leading_underscore(tmp_path: Path) -> None:
    folder = tmp_path / "_mine" / ".hidden"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"n": [1]}), folder / "a.parquet")
    assert part_files(folder) == [folder / "a.parquet"]


def test_every_stage_of_every_branch_has_a_folder_of_its_own(tmp_path: Path) -> None:
    run = RunFolders(tmp_path)
    every = [
        getattr(folders, stage)
        for folders in (run, run.control("one"), run.control("two"), run.round(2), run.round(2).control("one"))
        for stage in ("prompts", "candidates", "distilled", "model", "evaluation", "report", "logs")
    ]
    assert len(set(every)) == len(every)
    assert all(tmp_path in path.parents for path in every)


def test_the_parts_of_a_mixture_share_the_models_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolders(tmp_path)
    one, two = run.part("one"), run.part("two")
    assert one.model == two.model == run.model
    assert one.control("c").model == two.control("c").model == run.control("c").model
    for stage in ("prompts", "candidates", "distilled", "evaluation", "report"):
        folders = (run, run.control("c"), one, two, one.control("c"), two.control("c"))
        assert len({getattr(folder, stage) for folder in folders}) == len(folders)
    assert one.control("c").candidates == tmp_path / "parts" / "one" / "controls" / "c" / "candidates"


def test_the_first_round_and_the_only_part_have_the_runs_own_folders(tmp_path: Path) -> None:
    run = RunFolders(tmp_path)
    assert run.round(1) == run.part("") == run
    assert run.round(2).model == tmp_path / "round-2" / "model"
    assert run.round(3).part("one").model == tmp_path / "round-3" / "model"
