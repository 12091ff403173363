"""`s2d doctor`: what this machine has, what is missing, and what to type."""

import typer

from s2d_ray.cli.options import errors_in_one_line
from s2d_ray.terminal import console


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command("doctor")(doctor_command)


def doctor_command() -> None:
    """What this machine has, what is missing, and what to type."""
    with errors_in_one_line(debug=False):
        from rich.table import Table

        from s2d_ray.doctor import findings

        table = Table("check", "found", "", "what to type", box=None)
        colours = {"ok": "green", "warn": "yellow", "missing": "red"}
        found = findings(ask_torch=True)
        for finding in found:
            table.add_row(finding.name, finding.found, f"[{colours[finding.state]}]{finding.state}", finding.advice)
        console.print(table)
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(1)
