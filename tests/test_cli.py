"""The command: what it prints, and that bad input gives one clear line before anything is started."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from s2d_ray.cli import app
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.data.status import attempting
from s2d_ray.recipes.load import load_recipe, load_single_recipe, shipped_recipes
from s2d_ray.runs.names import STAGES
from s2d_ray.tasks.registry import load_task

ROWS = [{"key": str(n), "prompt": f"Question {n}?", "answer": str(n)} for n in range(30)]
# A format that is named need not be chosen, which takes a process with torch.
ENGINE = {"kind": "scripted", "dtype": "float32"}
# The command as installed, on a machine without Ray.
PROGRAM = 'import sys; sys.modules["ray"] = None; from s2d_ray.cli import main; main()'


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process the command cannot get as far as Ray, and writes nothing to where the tests are run."""
    monkeypatch.chdir(tmp_path)
    for name in ("ray", "s2d_ray.stages.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    # A test that started Ray in this process leaves SIGCHLD ignored: every exit code would read 0.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def s2d(*arguments: object) -> Result:
    """The command in this process; for what ends before a stage is reached."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def line(result: Result, code: int = 1) -> str:
    """What a refused command says: one line on stderr, and nothing else."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    assert result.stdout == ""
    [said] = result.stderr.splitlines()
    assert said.startswith("s2d: ")
    return said.removeprefix("s2d: ")


def refused_before_ray(*arguments: object) -> str:
    """The one line of a command whose checks come before Ray: one that came later would fail for want of it."""
    return line(s2d(*arguments))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def recipe(tmp_path: Path, unread_model: Path, corpus: Path) -> Path:
    path = tmp_path / "mine.yaml"
    content = {
        "name": "mine",
        "model": str(unread_model),
        "task": {"name": "prompts", "path": str(corpus)},
        "method": "direct",
        "engine": ENGINE,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_recipes_lists_what_is_shipped() -> None:
    result = s2d("recipes")
    assert (result.exit_code, result.stderr) == (0, "")
    listed = dict(said.split(maxsplit=1) for said in result.stdout.splitlines())
    assert listed == shipped_recipes()


def test_show_prints_the_whole_recipe_as_one_that_can_be_run(tmp_path: Path) -> None:
    name = "s2a-geonames"
    result = s2d("show", name, "train.epochs=1", "--limit", 5)
    assert (result.exit_code, result.stderr) == (0, "")
    shown = yaml.safe_load(result.stdout)
    assert (shown["train"]["epochs"], shown["limit"], shown["seed"]) == (1, 5, 0)
    assert shown["engine"]["max_sequences"] > 0, "defaults are shown too"
    assert "kinds" in shown["task"], "those of the task as well"
    path = tmp_path / "again.yaml"
    path.write_text(result.stdout)
    assert s2d("show", path).stdout == result.stdout
    wanted = load_single_recipe(name, ["train.epochs=1", "limit=5"])
    again = load_single_recipe(str(path))
    assert again.model_copy(update={"task": wanted.task}) == wanted
    assert load_task(again.task) == load_task(wanted.task)


def test_without_arguments_the_command_says_what_there_is() -> None:
    result = s2d()
    assert result.exit_code == 2
    for command in (
        "run",
        "ingest",
        "generate",
        "curate",
        "train",
        "evaluate",
        "report",
        "recipes",
        "show",
        "plan",
        "doctor",
    ):
        assert f" {command} " in result.output


@pytest.mark.parametrize(
    "arguments", [["distil", "s2a-geonames"], ["run"], ["show", "s2a-geonames", "--limit", "0"], ["run", "x", "--fast"]]
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(arguments: list[str]) -> None:
    result = s2d(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=1", "unknown key train.epoch: did you mean epochs?"),
        ("sed=1", "unknown key sed: did you mean seed?"),
        ("task.pth=a.csv", "task prompts: unknown key pth: did you mean path?"),
        ("method.promts=few_shot", None),
        ("train.max_steps=9", "train.max_steps is now train.steps"),
        ("train.epochs=0", "train.epochs: Input should be greater than 0"),
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("train.epochs=[1", "train.epochs=[1"),
        ("task.name=geography", "no task geography: shipped are"),
        ("method=s3a", "no method s3a: shipped are direct, cot"),
        ("method=no_such_module:f", "no module no_such_module"),
        ("method=:f", ":f"),
        ("task=json:loads", "json:loads"),
        ("curate.rules=[plurality]", "no curation rule plurality"),
        ("task.path=nowhere.jsonl", "no file or folder nowhere.jsonl"),
        ("task.text_column=question", "has no column question; it has key, prompt, answer"),
        ("task.id_column=number", "has no column number; it has key, prompt, answer"),
    ],
)
@pytest.mark.parametrize("command", ["show", "run", "train"])
def test_a_recipe_that_cannot_run_is_refused_in_one_line(
    recipe: Path, override: str, said: str | None, command: str
) -> None:
    arguments = [command, recipe, override]
    if said is None:
        arguments, said = [command, recipe, "method=s2a", override], "unknown key promts: did you mean prompts?"
    assert said in line(s2d(*arguments))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no rows"),
        (b"no json", "line 1: no JSON"),
        (b'{"prompt": "caf\xe9"}\n', "line 1: not UTF-8"),
        (b'{"prompt": []}\n', "prompt"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(recipe: Path, corpus: Path, content: bytes, said: str) -> None:
    corpus.write_bytes(content)
    told = line(s2d("run", recipe))
    assert str(corpus) in told
    assert said in told


def test_a_recipe_that_is_not_there_or_no_recipe_is_refused(tmp_path: Path) -> None:
    assert "no recipe named s2a-geoname: did you mean s2a-geonames?" in line(s2d("run", "s2a-geoname"))
    assert "no recipe file nowhere.yaml" in line(s2d("run", "nowhere.yaml"))
    (tmp_path / "bad.yaml").write_text("name: [")
    assert "bad.yaml is not YAML" in line(s2d("show", tmp_path / "bad.yaml"))


def test_a_stage_that_is_not_there_is_refused_with_those_that_are(recipe: Path) -> None:
    told = line(s2d("run", recipe, "--until", "distil"))
    assert told == "no stage distil: stages are ingest, generate, curate, train, evaluate, report"


def test_debug_shows_the_traceback_and_nothing_else_does(recipe: Path) -> None:
    quiet, debug = s2d("show", recipe, "sed=1"), s2d("show", recipe, "sed=1", "--debug")
    assert "Traceback" not in quiet.stderr
    assert "Traceback (most recent call last)" in debug.stderr
    assert "UserError" in debug.stderr
    assert debug.stderr.splitlines()[-1] == quiet.stderr.strip()
    assert debug.exit_code == quiet.exit_code == 1


@pytest.mark.slow
def test_the_installed_command_ends_with_its_line_and_its_code(recipe: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (
            ["show", "s2a-geonames", "train.epoch=1"],
            "recipe s2a-geonames: unknown key train.epoch: did you mean epochs?",
        ),
        (["run", recipe, "--root", recipe], f"cannot write to {recipe}/mine: Not a directory; "),
    ):
        ended = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120)
        assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)
        assert ended.stderr.startswith(f"s2d: {said}")


def test_a_model_that_is_none_is_refused_before_ray_starts(recipe: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    told = refused_before_ray("run", recipe, f"model={empty}", "--root", tmp_path / "runs")
    assert told == f"{empty} is not a Hugging Face model folder: it has no config.json (the model's configuration)"


def test_repeated_ids_are_refused_before_ray_starts(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    corpus.write_text(corpus.read_text() + json.dumps(ROWS[7]) + "\n")
    told = refused_before_ray("run", recipe, "task.id_column=key", "--root", tmp_path / "runs")
    assert told == f"{corpus}, line 31: key 7 occurs more than once; make ids unique"


def test_a_root_that_cannot_be_written_is_refused_before_ray_starts(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refused_before_ray("run", recipe, "--root", tmp_path / "file")
    assert told.startswith(f"cannot write to {tmp_path / 'file' / 'mine'}")
    assert told.endswith("choose another folder with --root")


def test_results_of_a_different_recipe_are_refused_before_ray_starts(recipe: Path, tmp_path: Path) -> None:
    folders = RunFolders(tmp_path / "runs" / "mine")
    corpus = Artifact(folders.prompts, {"seed": 7}, CorpusManifest)
    corpus.open()
    corpus.finish(CorpusManifest(rows=0, source="", digest=""))
    told = refused_before_ray("run", recipe, "--root", tmp_path / "runs")
    assert told.startswith(f"{folders.prompts} was made by a different recipe (")
    assert "seed: 7 there, 0 now" in told
    assert told.endswith("choose another --root, or pass --overwrite to start this stage over")


def test_a_folder_that_another_attempt_works_on_is_refused_before_ray_starts(recipe: Path, tmp_path: Path) -> None:
    with attempting(tmp_path / "runs" / "mine"):
        told = refused_before_ray("run", recipe, "--root", tmp_path / "runs")
    assert told.startswith(f"attempt 1 (process {os.getpid()} on ")
    assert told.endswith("wait for it or stop it, or choose another --root")


def test_a_failure_before_the_first_stage_is_in_the_status_file(recipe: Path, tmp_path: Path) -> None:
    told = refused_before_ray("train", recipe, "--root", tmp_path / "runs")
    status = read_json(tmp_path / "runs" / "mine" / "status.json")
    assert (status["status"], status["stage"], status["error"]) == ("failed", "prepare", told)


def test_a_ray_job_needs_a_root_that_outlives_its_working_folder(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}, "runtime_env": {}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", config)
    assert "give --root as a path from /, not runs" in line(s2d("run", recipe))


def test_a_plan_needs_a_run_or_a_sample(recipe: Path, tmp_path: Path) -> None:
    told = line(s2d("plan", recipe, "--prompts", 1000, "--root", tmp_path / "runs"))
    assert told.startswith("no curated run of mine in ")
    assert "--measure 32" in told
    assert not (tmp_path / "runs").exists()


def test_a_plan_without_prompts_needs_neither_run_nor_hub_nor_task() -> None:
    fits = s2d("plan", "s2a-trivia-paper")
    assert fits.exit_code == 0
    assert [row.split()[:3] for row in fits.stdout.splitlines()[2:5]] == [
        ["generate", "32", "4"],
        ["train", "32", "4"],
        ["evaluate", "32", "4"],
    ]
    assert "does not fit" not in fits.stdout
    smaller = s2d("plan", "s2a-trivia-paper", "--gpu-memory-gib", 48, "--gpus-per-node", 4, "--params-b", 70)
    assert "the smallest change: engine.pipeline_parallel=2" in " ".join(smaller.stdout.split())


def test_a_sample_without_a_size_to_plan_for_is_refused(recipe: Path) -> None:
    assert "say with --prompts how many" in line(s2d("plan", recipe, "--measure", 8))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*STAGES, "run"])
def test_each_job_is_the_command_of_its_name(stage: str, recipe: Path) -> None:
    job = Path(__file__).parents[1] / "jobs" / f"{stage}.py"
    ended = subprocess.run(
        [sys.executable, job, recipe, "sed=1"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(job.parents[1])},
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"s2d: recipe {recipe}: unknown key sed: did you mean seed?\n"
    usage = subprocess.run(
        [sys.executable, job],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(job.parents[1])},
    )
    assert usage.returncode == 2
    assert f" {stage} " in usage.stderr


def test_a_stage_whose_predecessor_has_not_run_is_refused_before_ray_starts(recipe: Path, tmp_path: Path) -> None:
    told = refused_before_ray("train", recipe, "--root", tmp_path / "runs")
    assert "prompts is not finished: run the stage that makes it first" in told
    assert s2d("ingest", recipe, "--root", tmp_path / "runs").exit_code == 0
    told = refused_before_ray("train", recipe, "--root", tmp_path / "runs")
    assert "candidates is not finished: run the stage that makes it first" in told


@pytest.fixture
def mixture(tmp_path: Path, unread_model: Path, corpus: Path) -> Path:
    path = tmp_path / "several.yaml"
    part = {"task": {"name": "prompts", "path": str(corpus)}, "method": "direct"}
    content = {"name": "several", "model": str(unread_model), "engine": ENGINE}
    path.write_text(yaml.safe_dump(content | {"parts": {"one": part, "two": part | {"limit": 3}}}))
    return path


def test_show_prints_a_mixture_as_one_that_can_be_run(mixture: Path, tmp_path: Path) -> None:
    result = s2d("show", mixture, "parts.one.generate.samples=2", "rounds=2", "--limit", 5)
    assert (result.exit_code, result.stderr) == (0, "")
    shown = yaml.safe_load(result.stdout)
    assert (shown["parts"]["one"]["task"]["text_column"], shown["rounds"]) == ("prompt", 2)
    path = tmp_path / "again.yaml"
    path.write_text(result.stdout)
    assert s2d("show", path).stdout == result.stdout
    recipes = load_recipe(str(path)).recipes()
    assert [(own.generate.samples, own.limit) for own in recipes.values()] == [(2, 5), (4, 3)]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("parts.two.method=s3a", "no method s3a"),
        ("parts.two.task.path=nowhere.jsonl", "no file or folder nowhere.jsonl"),
        ("parts.two.curate.rules=[plurality]", "no curation rule plurality"),
        ("parts.two.curate.rule=[majority]", "part two: unknown key curate.rule: did you mean rules?"),
    ],
)
@pytest.mark.parametrize("command", ["show", "run"])
def test_a_part_that_cannot_run_is_refused_in_one_line(mixture: Path, override: str, said: str, command: str) -> None:
    assert said in line(s2d(command, mixture, override))


def test_a_stage_of_a_mixture_whose_predecessor_has_not_run_is_refused(mixture: Path, tmp_path: Path) -> None:
    assert s2d("ingest", mixture, "--root", tmp_path / "runs").exit_code == 0
    told = refused_before_ray("train", mixture, "--root", tmp_path / "runs")
    assert told.startswith(f"{tmp_path / 'runs/several/parts/one/candidates'} is not finished")
