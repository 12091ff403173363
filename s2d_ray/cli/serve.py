"""`s2d serve`: a finished run behind one address."""

from typing import Annotated

import typer

from s2d_ray.cli.options import DEFAULT_ROOT, Debug, Overrides, RecipeName, Root, errors_in_one_line, run_of
from s2d_ray.terminal import quiet

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen at, instead of the recipe's.")]
Config = Annotated[
    bool, typer.Option("--config", help="Print the configuration for `serve deploy` or a RayService instead.")
]


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command("serve")(serve_command)


def serve_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    root: Root = DEFAULT_ROOT,
    port: Port = None,
    config: Config = False,
    debug: Debug = False,
) -> None:
    """Serve a finished run: OpenAI's API at /v1, the experiment of System 1 against System 2 at /ab."""
    with errors_in_one_line(debug):
        words = [*(overrides or ()), *([] if port is None else [f"serve.port={port}"])]
        run = run_of(recipe, words, root)
        resolved = run.single_recipe
        from s2d_ray.serving.ray_settings import set_for_ray

        with set_for_ray(resolved.serve):
            # Ray takes seconds to import: not before everything is known to be right.
            from s2d_ray.data.folders import writable
            from s2d_ray.errors import UserError
            from s2d_ray.serving import service

            if config:
                import yaml

                described = service.serve_config(resolved, recipe, root, words)
                print(yaml.safe_dump(described, sort_keys=False, allow_unicode=True), end="")
                return
            served = service.resolve(resolved, run.folders)
            if not writable(run.folders.serving):
                raise UserError(
                    f"{run.folders.serving} cannot be written to, where the experiment and every request are kept: "
                    "serve a copy of the run under another --root"
                )
            with quiet(run.folders.logs / "serve.log"):
                service.serve_until_stopped(served)
