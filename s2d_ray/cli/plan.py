"""`s2d plan`: whether a recipe fits its nodes, and what it would take at another size."""

import os
from pathlib import Path
from typing import Annotated

import typer

from s2d_ray.cli.options import DEFAULT_ROOT, Debug, Overrides, RecipeName, Root, errors_in_one_line, words
from s2d_ray.errors import UserError
from s2d_ray.terminal import console, quiet


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command("plan")(plan_command)


def plan_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompts: Annotated[
        int | None,
        typer.Option(min=1, help="Unlabelled prompts to plan for; without, only what fits is told, and nothing run."),
    ] = None,
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
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Of one node.")] = 8,
    gpu_memory_gib: Annotated[float, typer.Option(help="Memory of one GPU.")] = 80,
    network_gbit: Annotated[float, typer.Option(help="Gbit/s of a node to the others, in each direction.")] = 400,
    nvlink_gbyte: Annotated[float, typer.Option(help="GB/s between the GPUs of a node, in each direction.")] = 300,
    node_memory_gib: Annotated[float, typer.Option(help="CPU memory of a node.")] = 1024,
    disk_gib: Annotated[float, typer.Option(help="Disk of a node for caches and temporary files.")] = 2000,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="In any currency.")] = None,
    root: Root = DEFAULT_ROOT,
    debug: Debug = False,
) -> None:
    """Whether it fits; GPUs, hours and money for a model and a corpus of another size."""
    with errors_in_one_line(debug):
        from s2d_ray.planning.estimate import estimate, fitting, measure_run, measure_sample, speed_for
        from s2d_ray.planning.shapes import shape_of
        from s2d_ray.planning.sizing import Gpu, Node
        from s2d_ray.runs.run import Run

        if measure and not prompts:
            raise UserError("--measure gives the tokens of a prompt: say with --prompts how many to plan for")
        run = Run(recipe, words(overrides, measure), root=root)
        node = Node(gpus_per_node, gpu_memory_gib, network_gbit, nvlink_gbyte, node_memory_gib, disk_gib)
        found = []
        if prompts:
            run.check()
        if measure:
            with quiet(Path(os.devnull)):
                found = measure_sample(run.recipe)
        elif prompts:
            found = measure_run(run.recipe, run.folders)
            run.print_ledgers()
        shape = shape_of(run.recipe, params_b)
        better, shown = fitting(run.recipe, shape, teraflops, node)
        if prompts:
            speed = tokens_per_second or speed_for(run.recipe, found, shape, teraflops)
            shown += estimate(better, found, prompts, shape, Gpu(speed, teraflops), node, price_per_gpu_hour)
        for part in shown:
            console.print(part)
