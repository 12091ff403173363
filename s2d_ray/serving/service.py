"""`s2d serve`: a finished run on Ray Serve, on this machine or on the cluster that is joined."""

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from ray import serve

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.storage import location
from s2d_ray.errors import UserError
from s2d_ray.experiment.controller import refuse_older
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Strict
from s2d_ray.report.schema import read_report
from s2d_ray.runs.chats import check_chats
from s2d_ray.runs.distilled import find_distilled
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.resolved import resolve as resolve_recipe
from s2d_ray.runs.revisions import base_model
from s2d_ray.serving.auth import check_certificate, load_access
from s2d_ray.serving.deployments import Served, application
from s2d_ray.serving.ray_settings import host_for_ray, record_started, starts_own_ray
from s2d_ray.serving.responders import Confidence
from s2d_ray.signals import interrupted_by_sigterm
from s2d_ray.stages.cluster import joined
from s2d_ray.stages.placement import require_engine
from s2d_ray.terminal import console

JOINING_SECONDS = 600.0
"""For the first pods of a RayService, which is deployed as soon as its head is there."""


def resolve(recipe: Recipe, folders: RunFolders) -> Served:
    """All that serving needs, checked before Ray starts.

    Raises UserError where the run has no distilled model of this recipe, a secret that it names is missing, or its
    experiment is of an older version.
    """
    access = load_access(recipe.serve, os.environ)
    recipe = with_dtype(recipe, folders)
    base = base_model(recipe, folders)
    resolved = resolve_recipe(recipe)
    check_chats(resolved, base)
    distilled = find_distilled(resolved.parts[""], folders, base)
    if distilled is None:
        raise UserError(f"{folders.base} has no distilled model to serve: run `s2d run {recipe.name}` first")
    if distilled.changes:
        raise UserError(f"{folders.base} was made by a different recipe ({distilled.changes}): serve that one")
    refuse_older(folders)
    adapter = folders.model / "adapter" if (folders.model / "adapter").is_dir() else None
    if recipe.serve.shared_engine and adapter is None:
        raise UserError(f"{folders.model} has no adapter to share an engine with: leave serve.shared_engine out")
    if recipe.serve.shadow_judge is not None:
        load_method(recipe.serve.shadow_judge)
    confidence = _confidence(recipe, folders)
    return Served(recipe, folders, base.folder, distilled.model.folder, access, confidence, adapter)


def _confidence(recipe: Recipe, folders: RunFolders) -> Confidence | None:
    """The cascade that the recipe asks for, with the threshold of the report."""
    rule = recipe.serve.cascade
    if rule is None:
        return None
    report = folders.report / "report.json"
    found = read_report(report).cascade if report.exists() else None
    if found is None or (found.confidence, found.calibration.target) != (rule.confidence, rule.target):
        raise UserError(
            f"the cascade is not calibrated: run `s2d evaluate {recipe.name} --overwrite`, then `s2d report`"
        )
    return Confidence(rule, found.calibration.threshold)


def serve_until_stopped(served: Served) -> None:
    """Serve until Ctrl-C or SIGTERM; then let what is being answered end, and store every event."""
    recipe, settings = served.recipe, served.recipe.serve
    check_certificate(settings, starts_own_ray())
    _refuse_taken(settings.host, settings.port)
    # Before anything is served: whoever finds it healthy may end it at once.
    with joined(served.folders.logs), interrupted_by_sigterm():
        refuse_second()
        require_engine(recipe.engine)
        record_started()
        serve.start(http_options={"host": host_for_ray(settings), "port": settings.port})
        try:
            serve.run(application(served), name=recipe.name, route_prefix="/")
            record_started()
            address = f"{'https' if settings.certificate else 'http'}://{settings.host}:{settings.port}"
            console.print(f"{recipe.name} answers at {address}/v1, the experiment is at {address}/ab; Ctrl-C ends it")
            signal.pause()
        finally:
            serve.shutdown()


def refuse_second() -> None:
    """Raises UserError where the cluster has a server, which Ray Serve would replace by another and end with it."""
    if running := serve.status().applications:
        raise UserError(
            f"the cluster that is joined serves {', '.join(running)} already: end that with `serve shutdown`, or put "
            "this server in its place with `s2d serve --config` and `serve deploy`"
        )


def _refuse_taken(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port} ({error.strerror}): choose another with --port") from error


class AppArgs(Strict):
    """The arguments of `app` in a Serve config file."""

    recipe: str
    root: str
    overrides: tuple[str, ...] = ()


def app(args: AppArgs) -> serve.Application:
    """The application of a Serve config file (`serve deploy`, a RayService). Its secrets come from the environment."""
    recipe = load_single_recipe(args.recipe, args.overrides)
    check_certificate(recipe.serve, own_ray=False)
    served = resolve(recipe, RunFolders(location(args.root).resolve() / recipe.name))
    require_engine(recipe.engine, JOINING_SECONDS)
    return application(served)


def serve_config(recipe: Recipe, name: str, root: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What `serve deploy` and a RayService read to serve the run."""
    settings = recipe.serve
    arguments = {"recipe": name, "root": str(location(root).resolve()), "overrides": list(overrides)}
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [
            {"name": recipe.name, "route_prefix": "/", "import_path": "s2d_ray.serving.service:app", "args": arguments}
        ],
    }
