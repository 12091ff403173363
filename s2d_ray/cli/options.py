"""What several commands share: their arguments, the recipe behind them, and how an error is shown."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2d_ray.errors import in_one_line

if TYPE_CHECKING:
    from s2d_ray.runs.run import Run

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped name (`s2d recipes`) or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to override, dotted.")
]
Root = Annotated[
    str, typer.Option(help="Where each recipe has its results folder: a path, s3://bucket/path, gs://… or az://…")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Unlabelled prompts, and held-out prompts per subset, at most.")]
Overwrite = Annotated[bool, typer.Option(help="Start over instead of reusing or refusing what is there.")]
Debug = Annotated[bool, typer.Option(help="Show the traceback of an error.")]
DEFAULT_ROOT = "runs"
STOPPED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""


def run_of(recipe: str, overrides: Sequence[str] | None, root: str, limit: int | None = None) -> "Run":
    """The run that a command line names, its recipe checked. Raises UserError."""
    from s2d_ray.runs.run import Run

    run = Run(recipe, words(overrides, limit), root=root)
    run.check()
    return run


def words(overrides: Sequence[str] | None, limit: int | None) -> list[str]:
    """The overrides, that of `--limit` among them."""
    return [*(overrides or ()), *([] if limit is None else [f"limit={limit}"])]


def typed_command() -> str:
    """What the person typed for `s2d`."""
    typed = Path(sys.argv[0])
    return os.path.relpath(typed) if typed.name == "s2d" and os.sep in sys.argv[0] else "s2d"


@contextmanager
def errors_in_one_line(debug: bool) -> Iterator[None]:
    """What a person can mend, also of a disk, becomes one line and exit code 1; being stopped, one and 130."""
    try:
        yield
        _flush_output()
    except BrokenPipeError:
        raise
    except Exception as error:
        if (line := in_one_line(error)) is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"s2d: {line}", file=sys.stderr)
        raise typer.Exit(1) from error
    except (KeyboardInterrupt, SystemExit) as stop:  # SystemExit: SIGTERM while Ray is being joined.
        print("s2d: stopped", file=sys.stderr)
        raise typer.Exit(STOPPED) from stop


def _flush_output() -> None:
    """Raises OSError where what was printed has not reached its file."""
    try:
        sys.stdout.flush()
    except OSError:
        # Python tries once more as it ends, and would show a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
