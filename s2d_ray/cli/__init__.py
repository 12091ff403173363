"""The `s2d` command: each sub-command reads its arguments, calls the package, and prints one line for an error."""

import sys

import typer

from s2d_ray.cli import ask, doctor, plan, recipes, run, serve
from s2d_ray.terminal import quiet_defaults

app = typer.Typer(
    help="Distil slow multi-call prompting (System 2) into a model's one-call answer (System 1).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (run, ask, serve, recipes, plan, doctor):
    room.add_to(app)


def main(*command: str) -> None:
    """The entry point of the `s2d` command; of one sub-command where it is given, as for jobs."""
    quiet_defaults()
    app([*command, *sys.argv[1:]])
