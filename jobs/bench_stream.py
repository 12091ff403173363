"""How generate and curate scale with the corpus: rows/s, memory over time, and what a resume costs.

    python jobs/bench_stream.py [--prompts 200000 2000000] [--engines 2] [--plot memory.png]

The prompts are generated, and the answers come from a script, so that what is measured is all but the model: 4 samples
a prompt, a majority vote. Each corpus is run once undisturbed, and once killed with SIGKILL at half of generation and
started again. Memory is what processes hold alone (USS): the driver, the largest worker, and Ray's own processes.
"""

import argparse
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import psutil

from s2d_ray.curation.registry import load_rules
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.manifests import DistilledManifest
from s2d_ray.data.records import LabelledPrompt, Message, Prompt, content_id, user
from s2d_ray.data.shards import parts_done
from s2d_ray.methods.registry import load_method
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.runs.branches import candidates_artifact
from s2d_ray.stages.cluster import joined
from s2d_ray.stages.curate import curate
from s2d_ray.stages.generate import generate
from s2d_ray.tasks.corpus import write_corpus
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, Task

SAMPLES = 4
COMMIT_ROWS = 256
CALLS = "S2D_BENCH_CALLS"
"""Environment variable: the folder in which every engine process counts its calls."""
POINTS = 10
"""Lines of a table of memory over time."""


class Cases(Task):
    """As many prompts as are asked for, one after the other."""

    prompts: int

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """Each is different."""
        for number in range(self.prompts):
            text = f"I think the answer is {number % 3}. What is the number of case {number}?"
            yield LabelledPrompt(Prompt(content_id(text), [user(text)]), [], "all")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The text."""
        return text

    @property
    def source(self) -> str:
        return "generated"


def answer(messages: Sequence[Message], random: Random) -> str:
    """The script: an answer that one in five samples gets wrong."""
    _count_call()
    return "unsure" if random.random() < 0.2 else f"answer {len(messages[-1]['content'])}"


def _count_call() -> None:
    # In a mapped file, so that the count outlives SIGKILL.
    counter = _counter()
    counter[:8] = struct.pack("q", struct.unpack("q", counter[:8])[0] + 1)


@cache
def _counter() -> mmap.mmap:
    path = Path(os.environ[CALLS]) / str(os.getpid())
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 8)


def calls_made(folder: Path) -> int:
    """By all engine processes."""
    return sum(struct.unpack("q", path.read_bytes())[0] for path in folder.iterdir())


def worker(folder: Path, prompts: int, engines: int) -> None:
    """The process that is measured: says how long each stage took."""
    recipe = Recipe.model_validate(
        {
            "name": "bench",
            "model": "none",
            "task": {"name": "jobs.bench_stream:Cases", "prompts": prompts},
            "method": "direct",
            "engine": {"kind": "scripted", "script": "jobs.bench_stream:answer", "max_engines": engines},
            "generate": {"samples": SAMPLES, "commit_rows": COMMIT_ROWS},
        }
    )
    model = Model("none", folder, "none")
    clock = time.monotonic()

    def say(stage: str) -> None:
        nonlocal clock
        print("STAGE", json.dumps({stage: time.monotonic() - clock}), flush=True)
        clock = time.monotonic()

    task = load_task(recipe.task)
    corpus = write_corpus(recipe, task, folder / "prompts")
    say("corpus")
    with joined(folder / "logs"):
        say("ray")
        candidates = candidates_artifact(recipe, recipe.method, model, corpus, folder / "candidates")
        generate(recipe, task, load_method(recipe.method), model, corpus, candidates, "generate")
        say("generate")
        distilled = Artifact(folder / "distilled", {"candidates": candidates.fingerprint}, DistilledManifest)
        curate(recipe, task, load_rules(recipe.curate.rules), model, candidates, distilled, "curate")
        say("curate")


@dataclass(frozen=True)
class Memory:
    """MiB at one moment."""

    seconds: float
    driver: float
    largest_worker: float
    ray: float
    """Ray's own processes together: the raylet, the control store, agents."""


@dataclass(frozen=True)
class Measured:
    """One run of the worker process."""

    seconds: dict[str, float]
    """Of each stage that finished."""
    first_part: float
    """From the start of the process to the first part that it committed."""
    memory: list[Memory]


def measure(folder: Path, prompts: int, engines: int, stop: Callable[[], bool]) -> Measured:
    """Run the worker process until it ends, or kill it once `stop` says so."""
    calls = folder / "calls"
    calls.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).parents[1]
    environment = os.environ | {CALLS: str(calls), "PYTHONPATH": str(root)}
    command = [sys.executable, __file__, "--worker", str(folder), "--prompts", str(prompts), "--engines", str(engines)]
    before, first, memory = parts_done(folder / "candidates"), 0.0, list[Memory]()
    start = time.monotonic()
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            now = time.monotonic() - start
            memory.append(_memory(tree, now))
            if not first and parts_done(folder / "candidates") > before:
                first = now
            if stop():
                _kill(tree)
                break
            time.sleep(0.5)
        assert process.stdout is not None
        said = [json.loads(line.removeprefix("STAGE")) for line in process.stdout if line.startswith("STAGE")]
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit("the worker process failed: its reason is above")
    return Measured({stage: seconds for one in said for stage, seconds in one.items()}, first, memory)


def _kill(tree: psutil.Process) -> None:
    below = tree.children(recursive=True)
    tree.kill()
    psutil.wait_procs(below, timeout=60)


def _memory(tree: psutil.Process, seconds: float) -> Memory:
    workers, ray = [0.0], 0.0
    for child in tree.children(recursive=True):
        mib = _uss(child)
        if _title(child).startswith("ray::"):
            workers.append(mib)
        else:
            ray += mib
    return Memory(seconds, _uss(tree), max(workers), ray)


def _uss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().uss) / 2**20
    except psutil.Error:
        return 0.0


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def show(prompts: int, run: Measured) -> None:
    """Rows/s of each stage, and memory over time."""
    for stage in ("corpus", "generate", "curate"):
        seconds = run.seconds[stage]
        print(f"{prompts:,} prompts: {stage} {seconds:.1f} s, {prompts / seconds:,.0f} rows/s")
    print("     s  driver  largest worker  Ray itself  (MiB)")
    for at in run.memory[:: max(1, len(run.memory) // POINTS)]:
        print(f"{at.seconds:6.0f}  {at.driver:6.0f}  {at.largest_worker:14.0f}  {at.ray:10.0f}")
    driver, largest = max(m.driver for m in run.memory), max(m.largest_worker for m in run.memory)
    print(f"{prompts:,} prompts: driver at most {driver:.0f} MiB, largest worker {largest:.0f} MiB", flush=True)


def bench_resume(folder: Path, prompts: int, engines: int) -> None:
    """Kill at half of the parts, run again, and say what was done twice."""
    half = prompts // COMMIT_ROWS // 2
    measure(folder, prompts, engines, stop=lambda: parts_done(folder / "candidates") >= half)
    finished = parts_done(folder / "candidates") * COMMIT_ROWS
    again = measure(folder, prompts, engines, stop=lambda: False)
    twice = calls_made(folder / "calls") / SAMPLES - prompts
    print(
        f"{prompts:,} prompts, killed with {finished:,} finished: {twice:,.0f} rows begun twice, "
        f"{twice / finished:.2%} of the finished; resume: {again.seconds['corpus']:.1f} s to read the corpus again, "
        f"first new part {again.first_part:.1f} s after the start",
        flush=True,
    )


def plot(runs: dict[int, Measured], path: Path) -> None:
    """Driver and worker memory of every corpus against the share of its run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for prompts, run in runs.items():
        end = run.memory[-1].seconds
        for name, values in (
            ("driver", [m.driver for m in run.memory]),
            ("largest worker", [m.largest_worker for m in run.memory]),
        ):
            axes.plot([m.seconds / end for m in run.memory], values, label=f"{name}, {prompts:,} prompts")
    axes.set(xlabel="share of the run", ylabel="MiB held alone (USS)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--engines", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plot", type=Path, help="PNG of memory over time")
    parser.add_argument("--no-resume", action="store_true", help="leave out the killed runs")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker, options.prompts[0], options.engines)
    runs: dict[int, Measured] = {}
    for prompts in options.prompts:
        with tempfile.TemporaryDirectory() as folder:
            runs[prompts] = measure(Path(folder), prompts, options.engines, stop=lambda: False)
        show(prompts, runs[prompts])
        if not options.no_resume:
            with tempfile.TemporaryDirectory() as folder:
                bench_resume(Path(folder), prompts, options.engines)
    if options.plot:
        plot(runs, options.plot)


if __name__ == "__main__":
    main()
