"""`s2d run`, and a command for each stage alone."""

import shlex
from collections.abc import Callable
from typing import Annotated

import typer

from s2d_ray.cli.options import (
    DEFAULT_ROOT,
    Debug,
    Limit,
    Overrides,
    Overwrite,
    RecipeName,
    Root,
    errors_in_one_line,
    run_of,
    typed_command,
    words,
)
from s2d_ray.runs.names import STAGES
from s2d_ray.terminal import console

Until = Annotated[str | None, typer.Option(help=f"Last stage to run: {', '.join(STAGES)}.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.command("run")(run_command)
    for name, about in STAGES.items():
        app.command(name, help=f"Run the {name} stage alone: {about}")(_stage_command(name))


def run_command(
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
        run = run_of(recipe, overrides, root, limit)
        run.execute(until=until, overwrite=overwrite)
        if until is None and run.can_be_served:
            root_option = [] if root == DEFAULT_ROOT else ["--root", root]
            command = [typed_command(), "serve", recipe, *words(overrides, limit), *root_option]
            console.print(f"serve it: {shlex.join(command)}", soft_wrap=True, highlight=False, markup=False)


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
            run_of(recipe, overrides, root, limit).execute(name, overwrite=overwrite)

    return command
