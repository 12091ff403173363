"""The `s2d` command: read the arguments, call the pipeline, print one line for an error."""

import asyncio
import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.lease import attempting, ray_job
from s2d_ray.data.storage import location
from s2d_ray.doctor import findings
from s2d_ray.errors import UserError
from s2d_ray.inference.engine import EngineDied
from s2d_ray.planning.estimate import estimate, measure_run, measure_sample
from s2d_ray.recipes.load import load_any, load_recipe, shipped_recipes
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.replies_view import show_replies
from s2d_ray.report.ledger import ledger_table
from s2d_ray.runs import pipeline
from s2d_ray.runs.ask import arms_of, prompt_of, replies_of
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.serving.ray_settings import set_for_ray
from s2d_ray.tasks.registry import load_task
from s2d_ray.terminal import console

app = typer.Typer(
    help="Distil slow multi-call prompting (System 2) into a model's one-call answer (System 1).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped name (`s2d recipes`) or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to override, dotted.")
]
Root = Annotated[
    str, typer.Option(help="Where each recipe has its results folder: a path, s3://bucket/path or gs://bucket/path.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Unlabelled prompts, and held-out prompts per subset, at most.")]
Until = Annotated[str | None, typer.Option(help=f"Last stage to run: {', '.join(pipeline.STAGES)}.")]
Overwrite = Annotated[bool, typer.Option(help="Start over instead of reusing or refusing what is there.")]
QuestionAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[QUESTION] [KEY=VALUE]...",
        help="What to ask, in quotes (a held-out prompt without it), and recipe keys to override, dotted.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the replies as JSON.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen at, instead of the recipe's.")]
Config = Annotated[
    bool, typer.Option("--config", help="Print the configuration for `serve deploy` or a RayService instead.")
]
Debug = Annotated[bool, typer.Option(help="Show the traceback of an error.")]
DEFAULT_ROOT = "runs"
STOPPED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""


@app.command()
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    until: Until = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Run a recipe through every stage, to its report."""
    with errors_in_one_line(debug):
        names = list(pipeline.STAGES)
        if until is not None and until not in names:
            raise UserError(f"no stage {until}: stages are {', '.join(names)}")
        chosen = names[: names.index(until) + 1] if until else names
        resolved = _resolve(recipe, overrides, limit)
        folders = _run_stages(resolved, root, chosen, overwrite)
        if until is None and isinstance(resolved, Recipe) and Artifact(folders.model, {}).made_model:
            extra = [] if limit is None else [f"limit={limit}"]
            root_option = [] if root == DEFAULT_ROOT else ["--root", root]
            words = [_command(), "serve", recipe, *(overrides or ()), *extra, *root_option]
            console.print(f"serve it: {shlex.join(words)}", soft_wrap=True, highlight=False, markup=False)


def _stage_command(name: str) -> Callable[..., None]:
    def command(
        recipe: RecipeName,
        overrides: Overrides = None,
        root: Root = DEFAULT_ROOT,
        limit: Limit = None,
        overwrite: Overwrite = False,
        debug: Debug = False,
    ) -> None:
        with errors_in_one_line(debug):
            _run_stages(_resolve(recipe, overrides, limit), root, [name], overwrite)

    command.__doc__ = f"Run the {name} stage alone: {(pipeline.STAGES[name].__doc__ or '').splitlines()[0]}"
    return command


for _name in pipeline.STAGES:
    app.command(_name)(_stage_command(_name))


@app.command()
def ask(
    recipe: RecipeName,
    words: QuestionAndOverrides = None,
    root: Root = DEFAULT_ROOT,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show what System 1, System 2 and the distilled model, once there is one, do with one prompt."""
    with errors_in_one_line(debug):
        question, overrides = _question_and_overrides(words or ())
        resolved = load_recipe(recipe, overrides)
        pipeline.check(resolved)
        prompt = prompt_of(resolved, question)
        folders = _folders(resolved, root)
        resolved = with_dtype(resolved, folders)
        arms = arms_of(resolved, folders)
        log = folders.logs / "ask.log"
        try:
            with quiet(log), _spinner("asking; an engine takes a while to start"):
                replies = asyncio.run(replies_of(resolved, prompt, arms))
        except EngineDied as error:
            raise UserError(f"the engine is gone ({error}): what it said is in {log}") from error
        if json_:
            content = {"recipe": resolved.name, "prompt": asdict(prompt), "replies": [asdict(r) for r in replies]}
            print(json.dumps(content, indent=2, ensure_ascii=False))
        else:
            show_replies(prompt, replies, console)


def _spinner(text: str) -> Live:
    """Turns while a block runs on a terminal; shows nothing elsewhere."""
    # Redirection would bring what libraries print past `quiet`.
    return Live(Spinner("dots", text), console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def _question_and_overrides(words: Sequence[str]) -> tuple[str | None, list[str]]:
    overrides = [word for word in words if _is_override(word)]
    questions = [word for word in words if word not in overrides]
    if len(questions) > 1:
        raise UserError(f"write the question in quotes, as one word of the command: '{' '.join(questions)}'")
    return (questions[0] if questions else None), overrides


def _is_override(word: str) -> bool:
    """Whether it is a key and its value; `x=5. What is 2x?` is a question, since x is no key of a recipe."""
    key = re.match(r"(\w+)(\.\w+)*=", word)
    return key is not None and (key[1] in Recipe.model_fields or not re.search(r"\s", word))


@app.command()
def serve(
    recipe: RecipeName,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    port: Port = None,
    config: Config = False,
    debug: Debug = False,
) -> None:
    """Serve a finished run: OpenAI's API at /v1, the experiment of Distilled System 1 against System 2 at /ab."""
    with errors_in_one_line(debug):
        words = [*(overrides or ()), *([] if port is None else [f"serve.port={port}"])]
        resolved = load_recipe(recipe, words)
        pipeline.check(resolved)
        with set_for_ray():
            # Ray takes seconds to import: not before everything is known to be right.
            from s2d_ray.serving import service

            if config:
                described = service.serve_config(resolved, recipe, root, words)
                print(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), end="")
                return
            folders = _folders(resolved, root)
            served = service.resolve(resolved, folders)
            with quiet(folders.logs / "serve.log"):
                service.serve_until_stopped(served)


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    for name, description in shipped_recipes().items():
        console.print(f"{name:28} {description}", markup=False)


@app.command()
def show(recipe: RecipeName, overrides: Overrides = None, limit: Limit = None, debug: Debug = False) -> None:
    """Print a recipe as it would run, with every default."""
    with errors_in_one_line(debug):
        resolved = _resolve(recipe, overrides, limit)
        print(yaml.safe_dump(_whole(resolved), sort_keys=False, allow_unicode=True), end="")


@app.command()
def doctor() -> None:
    """What this machine has, what is missing, and what to type."""
    table = Table("check", "found", "", "what to type", box=None)
    colours = {"ok": "green", "warn": "yellow", "missing": "red"}
    found = findings(ask_torch=True)
    for finding in found:
        table.add_row(finding.name, finding.found, f"[{colours[finding.state]}]{finding.state}", finding.advice)
    console.print(table)
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(1)


@app.command()
def plan(
    recipe: RecipeName,
    prompts: Annotated[int, typer.Option(min=1, help="Unlabelled prompts to plan for.")],
    overrides: Overrides = None,
    params_b: Annotated[
        float | None, typer.Option(help="Billions of parameters of the model to plan for; else the recipe's model.")
    ] = None,
    measure: Annotated[
        int | None, typer.Option(min=1, help="Run so many prompts to measure their tokens; else a run under --root.")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="What one GPU generates with that model; else as measured on GPUs.")
    ] = None,
    teraflops: Annotated[float, typer.Option(help="What one GPU sustains in training, bf16.")] = 400,
    gpu_memory_gib: Annotated[float, typer.Option(help="Memory of one GPU.")] = 80,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="In any currency.")] = None,
    root: Root = DEFAULT_ROOT,
    debug: Debug = False,
) -> None:
    """GPUs, hours and money for a model and a corpus of another size."""
    with errors_in_one_line(debug):
        resolved = _resolve(recipe, overrides, measure)
        folders = _folders(resolved, root)
        if measure:
            with quiet(Path(os.devnull)):
                found = measure_sample(resolved)
        else:
            found = measure_run(resolved, folders)
        _print_ledgers(resolved, folders)
        gpu = (tokens_per_second, teraflops, gpu_memory_gib)
        for part in estimate(resolved, found, prompts, params_b, *gpu, price_per_gpu_hour):
            console.print(part)


def _resolve(name: str, overrides: Sequence[str] | None, limit: int | None) -> AnyRecipe:
    extra = [] if limit is None else [f"limit={limit}"]
    recipe = load_any(name, [*(overrides or ()), *extra])
    pipeline.check(recipe)
    return recipe


def _whole(recipe: AnyRecipe) -> dict[str, Any]:
    """The recipe with the defaults of its tasks filled in too; what it is about comes first."""
    whole = recipe.model_dump(mode="json")
    head = {key: whole.pop(key) for key in ("name", "description")}
    if isinstance(recipe, Mixture):
        parts = whole.pop("parts")
        return (
            head | {"parts": {name: parts[name] | {"task": _task(recipe.parts[name].task)} for name in parts}} | whole
        )
    del whole["task"]
    return head | {"task": _task(recipe.task), "method": whole.pop("method")} | whole


def _task(section: Named) -> dict[str, Any]:
    return {"name": section.name, **load_task(section).model_dump(mode="json")}


def _command() -> str:
    """What the person typed for `s2d`."""
    typed = Path(sys.argv[0])
    return os.path.relpath(typed) if typed.name == "s2d" and os.sep in sys.argv[0] else "s2d"


def _run_stages(recipe: AnyRecipe, root: str, stages: Sequence[str], overwrite: bool) -> RunFolders:
    folders = _folders(recipe, root)
    taken: dict[str, float] = {}
    begin = time.monotonic()
    with attempting(folders.base) as attempt:
        plans = pipeline.prepare(recipe, folders, stages, overwrite)
        # Ray takes seconds to import: not before everything is known to be right.
        from s2d_ray.stages.cluster import gpus_counted, joined

        text = yaml.safe_dump(_whole(plans[0].recipe), sort_keys=False, allow_unicode=True)
        (folders.base / "recipe.yaml").write_text(text)
        logs = f"logs of Ray, vLLM and DeepSpeed: {folders.logs}"
        console.print(f"{recipe.name} in {folders.base}, attempt {attempt.number} ({logs})")
        # Ray, when joined, puts a handler of its own in place.
        with (
            quiet(folders.logs / "driver.log"),
            joined(folders.logs),
            attempt.stopped_by_sigterm(),
            gpus_counted(attempt.use_gpus),
        ):
            for plan in pipeline.rounds(plans, stages):
                for name in stages:
                    start = time.monotonic()
                    number = plan.round if len(plans) > 1 else None
                    console.print(f"[bold]{name}[/bold]" + (f" (round {number})" if number else ""))
                    with attempt.stage(name, number):
                        pipeline.STAGES[name](plan)
                    taken[name] = taken.get(name, 0.0) + time.monotonic() - start
    for name, seconds in taken.items():
        console.print(f"  {name:10} {seconds:7.1f} s")
    console.print(f"  {'in all':10} {time.monotonic() - begin:7.1f} s")
    if "report" in stages:
        _print_ledgers(recipe, folders)
        page = "overview.html" if plans[0].has_overview else "report.html"
        console.print(f"report: {folders.report / page}")
    return folders


def _print_ledgers(recipe: AnyRecipe, folders: RunFolders) -> None:
    """What each part and round cost, where it has been reported."""
    for number in range(1, recipe.rounds + 1):
        for part in recipe.recipes():
            report = folders.round(number).part(part).report / "report.json"
            if report.exists():
                where = [part] if part else []
                where += [f"round {number}"] if recipe.rounds > 1 else []
                console.print(ledger_table(read_json(report)["ledger"], ", ".join(where)))


def _folders(recipe: AnyRecipe, root: str) -> RunFolders:
    base = location(root)
    if ray_job() and not base.is_absolute():
        raise UserError(f"a Ray job's working folder is temporary: give --root as a path from /, not {root}")
    return RunFolders(base.resolve() / recipe.name)


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What libraries print, from Python or from C++, goes to `log`; what this package says does not.

    Its consoles hold the original output, so only the file descriptors underneath change.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        kept, shown_in = (os.dup(1), os.dup(2)), None if console.file is sys.stdout else console.file
        console.file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            console.file.close()
            console.file = shown_in  # type: ignore[assignment] # None: whatever sys.stdout is at the time
            for original, number in zip(kept, (1, 2), strict=True):
                os.dup2(original, number)
                os.close(original)


@contextmanager
def errors_in_one_line(debug: bool) -> Iterator[None]:
    """A UserError, or a disk that is full, becomes one line and exit code 1; being stopped, one and 130."""
    try:
        yield
    except (UserError, OSError) as error:
        if debug:
            traceback.print_exc()
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"s2d: {' '.join(message.split())}", file=sys.stderr)
        raise typer.Exit(1) from error
    except (KeyboardInterrupt, SystemExit) as stop:  # SystemExit: SIGTERM while Ray is being joined.
        print("s2d: stopped", file=sys.stderr)
        raise typer.Exit(STOPPED) from stop


def main(*command: str) -> None:
    """The entry point of the `s2d` command; of one sub-command where it is given, as for jobs."""
    # Ray repeats its usage message and vLLM its statistics at every start; neither is asked for here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    app([*command, *sys.argv[1:]])
