"""`s2d plan`: what a recipe would take at another size."""

import os
from pathlib import Path
from typing import Annotated

import typer

from s2d_ray.cli.options import DEFAULT_ROOT, Debug, Overrides, RecipeName, Root, errors_in_one_line, run_of
from s2d_ray.terminal import console, quiet


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command("plan")(plan_command)


def plan_command(
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
        from s2d_ray.planning.estimate import estimate, measure_run, measure_sample

        run = run_of(recipe, overrides, root, measure)
        if measure:
            with quiet(Path(os.devnull)):
                found = measure_sample(run.recipe)
        else:
            found = measure_run(run.recipe, run.folders)
        run.print_ledgers()
        gpu = (tokens_per_second, teraflops, gpu_memory_gib)
        for part in estimate(run.recipe, found, prompts, params_b, *gpu, price_per_gpu_hour):
            console.print(part)
