"""The front door: a run in Python, as a script or a notebook has it."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

import s2d_ray
from s2d_ray.data.files import read_json
from tests.stages.runs import ids, write_corpus, write_recipe

ROWS = 40


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_model: Path) -> Path:
    return write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", ROWS))


def test_a_recipe_is_a_name_a_file_or_built_in_python(recipe_file: Path, tmp_path: Path) -> None:
    named = s2d_ray.Run("s2a-geonames", {"train.epochs": 3, "limit": 12}, root=tmp_path)
    assert (named.single_recipe.train.epochs, named.recipe.limit) == (3, 12)
    assert named.folders.base == tmp_path / "s2a-geonames"
    from_file = s2d_ray.Run(recipe_file, ["seed=4"], root=tmp_path)
    built = s2d_ray.Recipe(**(s2d_ray.load_recipe(str(recipe_file)).model_dump(exclude_unset=True)))
    assert s2d_ray.Run(built, {"seed": 4}, root=tmp_path).recipe == from_file.recipe
    assert s2d_ray.Run(built, root=tmp_path).recipe is built


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"train.epoch": 1}, "unknown key train.epoch: did you mean epochs?"),
        (["seed"], "override 'seed' is not of the form key=value"),
        ({"method.name": "s3a"}, "no method s3a"),
    ],
)
def test_what_does_not_fit_is_said_as_the_command_says_it(overrides: Any, told: str, recipe_file: Path) -> None:
    with pytest.raises(s2d_ray.UserError, match="^.*" + told.replace("?", r"\?")):
        s2d_ray.Run(recipe_file, overrides).check()


def test_overrides_are_values_as_they_are_or_words_as_typed(recipe_file: Path, tmp_path: Path) -> None:
    values = {"description": "hi 😀", "model": tmp_path, "engine.extra": {"x": 1e-5}}
    recipe = s2d_ray.Run(recipe_file, values).recipe
    assert (recipe.description, recipe.model, recipe.engine.extra) == ("hi 😀", str(tmp_path), {"x": 1e-5})
    assert s2d_ray.Run(recipe_file, "seed=4").recipe.seed == 4


@pytest.mark.parametrize(
    ("stages", "until", "told"),
    [
        (("generate", "train"), None, "curate is missing between them"),
        (("generate",), "train", "not both"),
        ((), "distil", "no stage distil"),
    ],
)
def test_stages_that_would_leave_a_gap_are_refused(
    stages: tuple[str, ...], until: str | None, told: str, recipe_file: Path, tmp_path: Path
) -> None:
    run = s2d_ray.Run(recipe_file, root=tmp_path / "runs")
    with pytest.raises(s2d_ray.UserError, match=told):
        run.execute(*stages, until=until)
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_not_there_is_said_before_the_corpus_is_read(recipe_file: Path, tmp_path: Path) -> None:
    run = s2d_ray.Run(recipe_file, {"model": tmp_path / "typo"}, root=tmp_path / "runs")
    with pytest.raises(s2d_ray.UserError, match="typo"):
        run.execute()
    assert not run.folders.prompts.exists()


def test_a_part_that_is_not_there_is_named_with_those_that_are(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(s2d_ray.UserError, match="trial has no part 'two': there are ''"):
        s2d_ray.Run(recipe_file, root=tmp_path / "runs").kept("two")


def test_a_run_that_has_not_begun_says_what_is_missing(recipe_file: Path, tmp_path: Path) -> None:
    run = s2d_ray.Run(recipe_file, root=tmp_path / "runs")
    for ask in (lambda: run.report, lambda: run.model_path, run.kept, run.distilled):
        with pytest.raises(s2d_ray.UserError, match=r"s2d run"):
            ask()
    with pytest.raises(s2d_ray.UserError, match="no stage distil: stages are ingest, generate"):
        run.execute("distil")
    assert not run.can_be_served
    assert not (tmp_path / "runs").exists(), "looking writes nothing"


def test_ingest_alone_needs_no_ray_and_writes_the_corpus_alone(recipe_file: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["ray"] = None
import s2d_ray
s2d_ray.Run({str(recipe_file)!r}, root={str(tmp_path / "runs")!r}).ingest()
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    base = tmp_path / "runs" / "trial"
    assert len(ids(base / "prompts")) == read_json(base / "prompts" / "manifest.json")["rows"]
    assert not (base / "candidates").exists()


def test_one_prompt_is_asked_where_an_event_loop_runs_already(recipe_file: Path, tmp_path: Path) -> None:
    run = s2d_ray.Run(recipe_file, {"engine.dtype": "float32"}, root=tmp_path / "runs")

    async def notebook() -> Any:
        return run.ask("I think it is 2. What is the number of case 7?")

    asked, plain = asyncio.run(notebook()), run.ask("I think it is 2. What is the number of case 7?")
    assert [reply.text for reply in asked.replies] == [reply.text for reply in plain.replies]
    assert len(asked.replies) == 2
    assert asked.prompt == plain.prompt


@pytest.mark.ray
def test_stages_run_one_by_one_in_an_event_loop_on_a_ray_that_is_joined(
    recipe_file: Path, tmp_path: Path, local_ray: None
) -> None:
    run = s2d_ray.Run(recipe_file, root=tmp_path / "runs")

    async def notebook() -> None:
        run.ingest().generate()
        assert ray.is_initialized(), "a Ray that was there before stays"
        run.curate()

    asyncio.run(notebook())
    kept, rejected = run.kept(), run.rejected()
    counts = read_json(run.folders.distilled / "manifest.json")
    assert (len(kept), len(rejected)) == (counts["kept"], sum(counts["rejected"].values()))
    assert len(kept) > 0 and len(rejected) > 0
    assert set(rejected["reason"]) == set(counts["rejected"])
    pairs = run.distilled()
    assert pairs.column_names == ["prompt_id", "messages"]
    assert [row["messages"][-1]["content"] for row in pairs] == kept["target"][:]


def test_the_package_tells_its_version_and_its_names() -> None:
    from importlib.metadata import version

    assert s2d_ray.__version__ == version("s2d-ray")
    for name in dir(s2d_ray):
        assert getattr(s2d_ray, name) is not None
    with pytest.raises(AttributeError, match="no attribute rune"):
        s2d_ray.rune  # noqa: B018
