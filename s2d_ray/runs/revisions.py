"""Which commit of a model on the hub a run is made from: that of its branch when it begins, wherever it goes on.

`revision.json` in the results folder has it, beside what the recipe asked for. It is no input of any result: what the
hub says of the files at a commit identifies the model.
"""

from typing import TypeVar

from s2d_ray.data.artifacts import read_inputs
from s2d_ray.data.files import write_json
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.hub import HubPath, commit_of
from s2d_ray.data.versioned import Versioned
from s2d_ray.models import HUB_IDENTITY, Model, on_hub, resolve_model
from s2d_ray.recipes.recipe import AnyRecipe, Mixture, Recipe
from s2d_ray.terminal import console

R = TypeVar("R", Recipe, Mixture, AnyRecipe)
REVISION = "revision.json"


class Revision(Versioned):
    """`revision.json`: what a run's recipe asked for, and what that was when the run began."""

    model: str
    model_revision: str | None = None
    """Branch or tag; None for the default branch."""
    commit: str


def with_commit(recipe: R, folders: RunFolders | None = None) -> R:
    """The recipe with the commit that its run in `folders` began with, or else the one of its branch or tag by now.

    As it is where the model is not on the hub. Raises UserError where the hub has no such model or revision.
    """
    if not on_hub(recipe.model):
        return recipe
    commit = _recorded(recipe, folders) or commit_of(recipe.model, recipe.model_revision)
    return recipe.model_copy(update={"model_revision": commit})


def keep_commit(recipe: AnyRecipe, begun: AnyRecipe, folders: RunFolders) -> None:
    """From now on the run in `folders` has the commit of `begun`, which is `recipe` with one; it is said once."""
    asked, commit = recipe.model_revision, begun.model_revision
    if commit is None or commit == asked or commit == _recorded(recipe, folders):
        return
    found = Revision(model=recipe.model, model_revision=asked, commit=commit)
    write_json(folders.run / REVISION, found.to_json())
    size = sum(file.size for file in HubPath.of(recipe.model, commit).files().values()) / 2**30
    said = f"{recipe.model} at commit {commit[:12]}: each machine that computes with it fetches its {size:.3g} GiB once"
    console.print(said, markup=False, highlight=False)


def base_model(recipe: AnyRecipe, folders: RunFolders | None = None) -> Model:
    """The model that a run begins or goes on with. Raises UserError where there is none."""
    recipe = with_commit(recipe, folders)
    model = resolve_model(recipe.model, recipe.model_revision, recipe.trust_remote_code)
    identity = _identity_there(recipe, folders) if folders else None
    # A run from before models of the hub were told apart by what the hub says of them goes on under its own name.
    if model.identity.startswith(HUB_IDENTITY) and identity and not identity.startswith(HUB_IDENTITY):
        return model.identified_by_bytes
    return model


def _recorded(recipe: AnyRecipe, folders: RunFolders | None) -> str | None:
    """The commit that the run began with, where the recipe still asks for the same."""
    if folders is None or not (folders.run / REVISION).exists():
        return None
    found = Revision.read(folders.run / REVISION)
    return found.commit if (found.model, found.model_revision) == (recipe.model, recipe.model_revision) else None


def _identity_there(recipe: AnyRecipe, folders: RunFolders) -> str | None:
    """How results that are there already identify this model; None where there are none."""
    for part in recipe.recipes():
        model = read_inputs(folders.part(part).candidates).get("model", {})
        if model.get("name") == recipe.model:
            return str(model["identity"])
    return None
