"""The `s2d` command: each sub-command reads its arguments, calls the package, and prints one line for an error."""

import os
import sys

import typer

from s2d_ray.cli import ask, doctor, plan, recipes, run, serve

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
    # Ray repeats its usage message and vLLM its statistics at every start; neither is asked for here.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    app([*command, *sys.argv[1:]])
