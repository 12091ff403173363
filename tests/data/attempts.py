"""Attempts at a run in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
AT_WORK = """
import sys, time
from pathlib import Path
from s2d_ray.data.status import attempting
with attempting(Path(sys.argv[1])) as attempt, attempt.stage("generate"):
    print("at work", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path, program: str = AT_WORK) -> Iterator[subprocess.Popen[str]]:
    """An attempt at work in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
        process.kill()
