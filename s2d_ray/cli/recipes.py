"""`s2d recipes` and `s2d show`: what is shipped, and what a recipe says in full."""

import typer

from s2d_ray.cli.options import Debug, Limit, Overrides, RecipeName, errors_in_one_line, run_of
from s2d_ray.terminal import console


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    app.command("recipes")(recipes_command)
    app.command("show")(show_command)


def recipes_command() -> None:
    """List the shipped recipes."""
    with errors_in_one_line(debug=False):
        from s2d_ray.recipes.load import shipped_recipes

        for name, description in shipped_recipes().items():
            console.print(f"{name:28} {description}", markup=False)


def show_command(recipe: RecipeName, overrides: Overrides = None, limit: Limit = None, debug: Debug = False) -> None:
    """Print a recipe as it would run, with every default."""
    with errors_in_one_line(debug):
        from s2d_ray.runs.whole import whole_yaml

        print(whole_yaml(run_of(recipe, overrides, ".", limit).recipe), end="")
