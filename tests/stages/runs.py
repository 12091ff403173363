"""Helpers of the tests that run the `s2d` command on a local Ray with the scripted engine."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Row
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.resolved import resolve

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 600.0
"""Seconds that a busy machine is given for what takes a few on a quiet one."""
BUSY_MACHINE = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}
"""How long Ray waits for its own processes to start: half a minute otherwise."""
PROGRAM = """
from s2d_ray.cli import main
try:
    main()
except SystemExit as end:
    print("exit code", end.code or 0, flush=True)
    raise
"""
"""Prints its exit code, since Ray in the process of the tests makes all that it is told of its children 0."""
COMMAND = [sys.executable, "-c", PROGRAM]


def write_corpus(path: Path, rows: int) -> Path:
    """A JSONL file of prompts, most with an opinion before the question."""
    prompts = [f"I think the answer is {i % 3}. What is the number of case {i}?" for i in range(rows)]
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


def write_recipe(folder: Path, model: Path, corpus: Path, script: str = "oracle", **sections: object) -> Path:
    """A recipe over `corpus` with the scripted engine; `sections` replace or add to it."""
    recipe = {
        "name": "trial",
        "description": "a trial",
        "model": str(model),
        "task": {"name": "prompts", "path": str(corpus)},
        "method": {"name": "s2a", "prompts": "few_shot"},
        "engine": {"kind": "scripted", "script": f"tests.scripts:{script}"},
        "generate": {"samples": 4, "commit_rows": 8, "concurrent_rows": 16},
        "evaluate": {"controls": False},
    }
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump(recipe | sections))
    return path


def run_here(recipe: Path, root: Path, *stages: str, **overrides: str) -> Path:
    """Run stages in this process, on the Ray that a fixture started; the results folder."""
    loaded = load_single_recipe(str(recipe), [f"{key}={value}" for key, value in overrides.items()])
    folders = RunFolders(root / loaded.name)
    resolved = resolve(loaded)
    pipeline.ingest(resolved, folders)
    [plan] = pipeline.prepare(resolved, folders, stages)
    for stage in stages:
        pipeline.STAGES[stage](plan)
    return folders.base


def start(arguments: Sequence[str], root: Path, **environment: str) -> subprocess.Popen[str]:
    """The command, started from the repository so that workers find `tests.scripts`."""
    environment = os.environ | BUSY_MACHINE | {"PYTHONPATH": str(REPOSITORY)} | environment
    return subprocess.Popen(
        [*COMMAND, *arguments, "--root", str(root)],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(arguments: Sequence[str], root: Path, **environment: str) -> str:
    """Run the command to its end and give what it printed; fails the test where it failed."""
    return finished(start(arguments, root, **environment))


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for the command's end and give what it printed; fails the test where it failed."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and exit_code(output) == 0, output
    return output


def exit_code(output: str) -> int | None:
    """What the command ended with, from what it printed; None where it did not come to its own end."""
    last = output.splitlines()[-1:]
    return int(last[0].removeprefix("exit code")) if last and last[0].startswith("exit code") else None


def ids(folder: Path) -> Counter[str]:
    """How often each prompt id stands in a folder's parts."""
    return Counter(row["prompt_id"] for row in read_rows(folder, ["prompt_id"]))


def by_id(folder: Path, status: str) -> dict[str, Row]:
    """The rows of one status of a distilled folder."""
    return {row["prompt_id"]: row for row in read_rows(folder / f"status={status}")}
