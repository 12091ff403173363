"""One finished run of the toy task with all its controls, and its report."""

import json
from typing import Any

import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.report.report import write_report
from tests.report.toy_run import RECIPE, Toy, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    run = write_run(tmp_path_factory.mktemp("run") / "toy", Toy())
    write_report(RECIPE, Toy(), run)
    return run


@pytest.fixture
def report(run: RunFolders) -> Any:
    return json.loads((run.report / "report.json").read_text())


@pytest.fixture
def html(run: RunFolders) -> str:
    return (run.report / "report.html").read_text()
