"""What the experiment costs a request: the student through `s2d serve` against bare `vllm serve` of the same model.

    .venv/bin/python jobs/bench_serve.py s2a-geonames --rounds 3

Both servers run, and take turns: in each round each gets the same held-out prompts, first one at a time (latency),
then many at once (requests/s). System 2's latency and tokens are taken from the same run. Prints a table and JSON.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import typer

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Prompt
from s2d_ray.inference.vllm_arguments import engine_arguments
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.tasks.registry import load_task

START_SECONDS = 600
GATEWAY_PORT, BARE_PORT = 8190, 8191


@dataclass(frozen=True)
class Measured:
    """One server under one load."""

    requests_per_second: float
    p50: float
    """Seconds."""
    tokens: float
    """Generated per answer."""


def prompts_of(recipe: Recipe, count: int) -> list[Prompt]:
    """Held-out prompts, again from the beginning where there are not enough."""
    items = [item.prompt for item in load_task(recipe.task).items("test", recipe.seed)]
    return list(islice(cycle(items), count))


def bare_command(recipe: Recipe, model: Path) -> list[str]:
    """`vllm serve` with the settings of the recipe's engine."""
    words = []
    for key, value in engine_arguments(recipe.engine, model, recipe.trust_remote_code).items():
        name = key.replace("_", "-")
        if value is True or value is False:
            words.append(f"--{name}" if value else f"--no-{name}")
        elif key != "model":
            words += [f"--{name}", str(value)]
    # What `vllm serve` runs; the command itself does not start under the name of vLLM's CPU package.
    # Ray's workers run at niceness 15: the client must not have to share its core with one of the servers alone.
    program = ["nice", "-n", "15", sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    return [*program, "--host", "127.0.0.1", "--port", str(BARE_PORT), "--served-model-name", "bare", *words]


@contextmanager
def running(command: Sequence[str], health: str, log: Path) -> Iterator[None]:
    """A server, up while the block runs."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: see {log}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(120)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


async def load(port: int, model: str, recipe: Recipe, prompts: Sequence[Prompt], at_once: int) -> Measured:
    """Ask all prompts, `at_once` at a time."""
    seconds, tokens = list[float](), list[int]()
    waiting = iter(prompts)
    limits = httpx.Limits(max_connections=at_once)

    async def client(http: httpx.AsyncClient) -> None:
        for prompt in waiting:
            sampling = recipe.evaluate.sampling
            body: dict[str, Any] = {"model": model, "messages": list(prompt.messages)}
            body |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
            start = time.monotonic()
            response = await http.post("/v1/chat/completions", json=body)
            response.raise_for_status()
            seconds.append(time.monotonic() - start)
            tokens.append(response.json()["usage"]["completion_tokens"])

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=600) as http:
        begin = time.monotonic()
        await asyncio.gather(*(client(http) for _ in range(at_once)))
        taken = time.monotonic() - begin
    return Measured(len(prompts) / taken, median(seconds), sum(tokens) / len(tokens))


def main(
    name: str,
    override: Annotated[list[str] | None, typer.Option(help="key=value of the recipe; may be repeated")] = None,
    root: Path = Path("runs"),
    rounds: int = 3,
    low: int = 50,
    high: int = 400,
    at_once: int = 32,
) -> None:
    """Measure. `name` is a recipe with a finished run under `root`; `low` and `high` are requests per round."""
    # Both servers and System 2's engine share the machine.
    overrides = [
        *(override or ()),
        "engine.gpu_memory=0.28",
        f"serve.student.queued_requests={at_once}",
        "serve.weights={student: 1}",
    ]
    recipe = load_single_recipe(name, overrides)
    folders = RunFolders(root.resolve() / recipe.name)
    recipe = with_dtype(recipe, folders)
    served = [sys.executable, "-c", "from s2d_ray.cli import main; main()", "serve", name, *overrides]
    served += ["--root", str(root), "--port", str(GATEWAY_PORT)]
    few, many = prompts_of(recipe, low), prompts_of(recipe, high)
    found: dict[str, list[Measured]] = {}
    command = bare_command(recipe, folders.model)
    logs = folders.logs
    logs.mkdir(exist_ok=True)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    with (
        running(command, f"http://127.0.0.1:{BARE_PORT}/health", logs / "bench_bare.log"),
        running(served, f"http://127.0.0.1:{GATEWAY_PORT}/healthz", logs / "bench_served.log"),
    ):
        servers = [("bare", BARE_PORT, "bare"), ("experiment", GATEWAY_PORT, "s2d")]
        for port, model in ((BARE_PORT, "bare"), (GATEWAY_PORT, "s2d"), (GATEWAY_PORT, "s2d:teacher")):
            asyncio.run(load(port, model, recipe, few, at_once))
        for number in range(rounds):
            # Whoever goes first changes from round to round.
            for label, port, model in servers[:: 1 if number % 2 == 0 else -1]:
                found.setdefault(f"{label}, 1 at once", []).append(asyncio.run(load(port, model, recipe, few, 1)))
                found.setdefault(f"{label}, {at_once} at once", []).append(
                    asyncio.run(load(port, model, recipe, many, at_once))
                )
            teacher = asyncio.run(load(GATEWAY_PORT, "s2d:teacher", recipe, few, 1))
            found.setdefault("System 2, 1 at once", []).append(teacher)
    show(found, at_once)


def show(found: dict[str, list[Measured]], at_once: int) -> None:
    """The medians over the rounds, and the two figures that count."""
    for label, rounds in found.items():
        figures = [median(getattr(one, key) for one in rounds) for key in ("requests_per_second", "p50", "tokens")]
        print(f"{label:28} {figures[0]:8.2f} requests/s  p50 {1000 * figures[1]:8.1f} ms  {figures[2]:6.1f} tokens")
    pairs = list(zip(found[f"experiment, {at_once} at once"], found[f"bare, {at_once} at once"], strict=True))
    shares = [ours.requests_per_second / theirs.requests_per_second for ours, theirs in pairs]
    slow = list(zip(found["experiment, 1 at once"], found["bare, 1 at once"], strict=True))
    added = [1000 * (ours.p50 - theirs.p50) for ours, theirs in slow]
    print(f"share of bare vLLM's requests/s: {median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
    print(f"added to the median latency:     {median(added):.1f} ms ({min(added):.1f} to {max(added):.1f})")
    print(json.dumps({label: [asdict(one) for one in rounds] for label, rounds in found.items()}))


if __name__ == "__main__":
    typer.run(main)
