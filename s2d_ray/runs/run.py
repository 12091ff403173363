"""A run: a recipe in its results folder, the stages that can be run there, and what they leave.

    run = s2d_ray.run("s2a-geonames", ["train.epochs=1"], root="runs")
    run.report, run.distilled(), run.model_path, run.ask("Which country is Lyon in?")

The same in a script, in a notebook and behind the `s2d` command; a Ray that is joined already is used, else the one
that RAY_ADDRESS names, else a local one while stages run.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.copies import local_copy
from s2d_ray.data.files import part_files, write_text
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.lease import ray_job
from s2d_ray.data.manifests import DistilledManifest, ModelManifest
from s2d_ray.data.records import DECISIONS, Message, Prompt
from s2d_ray.data.status import attempting
from s2d_ray.data.storage import location
from s2d_ray.errors import UserError
from s2d_ray.inference.engine import EngineDied
from s2d_ray.recipes.load import Overrides, load_recipe, overridden
from s2d_ray.recipes.recipe import AnyRecipe, Recipe
from s2d_ray.runs import pipeline
from s2d_ray.runs.ask import Reply, arms_of, prompt_of, replies_of
from s2d_ray.runs.beside import check_benchmarks
from s2d_ray.runs.chats import check_chats
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.runs.names import STAGES
from s2d_ray.runs.resolved import ResolvedRecipe, resolve
from s2d_ray.runs.revisions import base_model
from s2d_ray.runs.whole import whole_yaml
from s2d_ray.terminal import console, quiet, quiet_defaults

if TYPE_CHECKING:
    from datasets import Dataset

    from s2d_ray.report.schema import Report
    from s2d_ray.runs.graph import Plan

T = TypeVar("T")
_WITHOUT_STATUS = DECISIONS.remove(DECISIONS.get_field_index("status"))
"""As stored: the status is in the folder's name."""


class Asked(NamedTuple):
    """A prompt, and what each arm made of it."""

    prompt: Prompt
    replies: Sequence[Reply]


class Run:
    """A recipe's run in `<root>/<name of the recipe>/`, whether begun or not. Making one writes nothing."""

    def __init__(self, recipe: AnyRecipe | str | Path, overrides: Overrides = (), *, root: str | Path = "runs") -> None:
        """`recipe` is one, a shipped name or a YAML file; `root` a path, or an address in object storage.

        Raises UserError where there is no such recipe, or a key or value of it is wrong.
        """
        named = isinstance(recipe, str | Path)
        self.recipe: AnyRecipe = load_recipe(str(recipe), overrides) if named else overridden(recipe, overrides)  # type: ignore[arg-type]
        base = location(str(root))
        self._root = base
        self.folders = RunFolders(base.resolve() / self.recipe.name)

    def __repr__(self) -> str:
        return f"Run({self.recipe.name} in {self.folders.base})"

    def check(self) -> None:
        """Raises UserError where something that the recipe names does not exist or cannot be read."""
        resolve(self.recipe)

    def execute(self, *stages: str, until: str | None = None, overwrite: bool = False) -> "Run":
        """Run stages, by default all, or all up to `until`; gives the run itself.

        What is finished is reused and what was begun goes on, unless `overwrite`. One process at a time works on a
        run. Raises UserError where a stage, what it needs, or what lies in the folder does not fit.
        """
        quiet_defaults()
        chosen = _chosen(stages, until)
        if ray_job() and not self._root.is_absolute():
            raise UserError(f"a Ray job's working folder is temporary: give --root as a path from /, not {self._root}")
        resolved = resolve(self.recipe)
        if "evaluate" in chosen:
            check_benchmarks(self.recipe.evaluate.benchmarks)
        begin = time.monotonic()
        taken, plans = _run_stages(resolved, self.folders, chosen, overwrite)
        for name, seconds in taken.items():
            console.print(f"  {name:10} {seconds:7.1f} s")
        console.print(f"  {'in all':10} {time.monotonic() - begin:7.1f} s")
        if "report" in chosen:
            self.print_ledgers()
            page = "overview.html" if plans[0].has_overview else "report.html"
            console.print(f"report: {self.folders.report / page}")
        return self

    def ingest(self, *, overwrite: bool = False) -> "Run":
        """Read the prompts, and tell those to learn from and those to evaluate on apart."""
        return self.execute("ingest", overwrite=overwrite)

    def generate(self, *, overwrite: bool = False) -> "Run":
        """System 2 answers the unlabelled prompts."""
        return self.execute("generate", overwrite=overwrite)

    def curate(self, *, overwrite: bool = False) -> "Run":
        """Each prompt's candidates become a target or a rejection."""
        return self.execute("curate", overwrite=overwrite)

    def train(self, *, overwrite: bool = False) -> "Run":
        """The base model learns the targets."""
        return self.execute("train", overwrite=overwrite)

    def evaluate(self, *, overwrite: bool = False) -> "Run":
        """Every arm answers the held-out prompts."""
        return self.execute("evaluate", overwrite=overwrite)

    def write_report(self) -> "Run":
        """What came of it, as report.json, .md and .html."""
        return self.execute("report")

    @property
    def single_recipe(self) -> Recipe:
        """The recipe, where it has one task. Raises UserError for a mixture."""
        return self.recipe.single()

    @property
    def report(self) -> "Report":
        """What report.json says. Raises UserError where there is none yet, and for a mixture."""
        self.single_recipe  # noqa: B018 # A mixture is refused.
        return self.reports()[""]

    def reports(self) -> Mapping[str, "Report"]:
        """Part of a mixture (empty for the only one) → its report, of the first round."""
        return {name: self._report(name) for name in self.recipe.recipes()}

    def _report(self, part: str) -> "Report":
        # Statistics take a second to import, which commands that only look can do without.
        from s2d_ray.report.schema import read_report

        path = self.folders.part(part).report / "report.json"
        if not path.exists():
            raise UserError(f"{path} is not there: run the stages up to report first (`s2d run` runs them all)")
        return read_report(path)

    def distilled(self, part: str = "") -> "Dataset":
        """The training pairs in the `messages` form, the last turn being the target; of one part of a mixture."""
        return self.kept(part).select_columns(["prompt_id", "messages"])

    def kept(self, part: str = "") -> "Dataset":
        """Prompts that curation kept, with their target and what speaks for it (schema `DECISIONS`)."""
        return self._outcome("kept", part)

    def rejected(self, part: str = "") -> "Dataset":
        """Prompts that curation rejected, with the rule and its reason (schema `DECISIONS`)."""
        return self._outcome("rejected", part)

    def _outcome(self, status: str, part: str) -> "Dataset":
        from datasets import Dataset

        if part not in (parts := self.recipe.recipes()):
            raise UserError(f"{self.recipe.name} has no part {part!r}: there are {', '.join(map(repr, parts))}")
        folder = self.folders.part(part).distilled
        Artifact.existing(folder, DistilledManifest)
        files = [str(path) for path in part_files(local_copy(folder) / f"status={status}")]
        found: Dataset = Dataset.from_parquet(files) if files else Dataset(_WITHOUT_STATUS.empty_table())
        return found

    @property
    def model_path(self) -> Path:
        """The distilled model's folder. Raises UserError where there is none (yet)."""
        if not Artifact.existing(self.folders.model, ModelManifest).manifest.made_model:
            raise UserError(f"curation kept nothing to train {self.recipe.name} on: there is no model")
        return self.folders.model

    @property
    def can_be_served(self) -> bool:
        """Whether `s2d serve` has a model to serve."""
        model = Artifact(self.folders.model, {}, ModelManifest)
        return isinstance(self.recipe, Recipe) and model.finished and model.manifest.made_model

    def ask(self, question: str | Sequence[Message] | None = None) -> Asked:
        """One prompt put to each arm, in this process: a question, a chat that ends with one, or a held-out prompt.

        Raises UserError where the task can make no prompt of it, or the engine does not start.
        """
        quiet_defaults()
        resolved = resolve(self.single_recipe)
        prompt = prompt_of(resolved.parts[""], question)
        part = resolved.with_settings(with_dtype(self.single_recipe, self.folders)).parts[""]
        arms = arms_of(part, self.folders)
        check_chats(resolved, arms[0].model)
        log = self.folders.logs / "ask.log"
        try:
            with quiet(log):
                return Asked(prompt, _finished(replies_of(part, prompt, arms)))
        except EngineDied as error:
            raise UserError(f"the engine is gone ({error}): what it said is in {log}") from error

    def print_ledgers(self) -> None:
        """Show what each part and round cost, where it has been reported."""
        from s2d_ray.report.ledger import ledger_table
        from s2d_ray.report.schema import read_report

        for number in range(1, self.recipe.rounds + 1):
            for part in self.recipe.recipes():
                report = self.folders.round(number).part(part).report / "report.json"
                where = [part] if part else []
                where += [f"round {number}"] if self.recipe.rounds > 1 else []
                with suppress(FileNotFoundError, UserError):  # Not there, or of another version.
                    console.print(ledger_table(read_report(report).ledger, ", ".join(where)))


def run(
    recipe: AnyRecipe | str | Path,
    overrides: Overrides = (),
    *,
    root: str | Path = "runs",
    until: str | None = None,
    overwrite: bool = False,
) -> Run:
    """Run a recipe through every stage, or up to the stage `until`, and give the run with its results.

    `recipe` is one, a shipped name (`s2a-geonames`) or a YAML file; results lie in `<root>/<name of the recipe>/`.
    Raises UserError where something does not fit; its message says what to do.
    """
    return Run(recipe, overrides, root=root).execute(until=until, overwrite=overwrite)


def _chosen(stages: Sequence[str], until: str | None) -> list[str]:
    names = list(STAGES)
    for name in (*stages, *([until] if until else [])):
        if name not in names:
            raise UserError(f"no stage {name}: stages are {', '.join(names)}")
    if stages and until:
        raise UserError(f"either name the stages ({', '.join(stages)}) or the last one (until {until}), not both")
    if stages:
        first, last = (pick(map(names.index, stages)) for pick in (min, max))
        if set(names[first : last + 1]) != set(stages):
            between = ", ".join(name for name in names[first : last + 1] if name not in stages)
            raise UserError(f"stages that run together follow each other: {between} is missing between them")
        return names[first : last + 1]
    return names[: names.index(until) + 1] if until else names


def _run_stages(
    resolved: ResolvedRecipe, folders: RunFolders, stages: Sequence[str], overwrite: bool
) -> tuple[dict[str, float], list["Plan"]]:
    """The seconds of each stage, and the plans that were run."""
    taken: dict[str, float] = {}
    with attempting(folders.base) as attempt:
        # What is wrong with the model or its chat template is said before the corpus is read.
        base = base_model(resolved.recipe, folders)
        if set(stages) != {"report"}:
            check_chats(resolved, base, stages)
        if "ingest" in stages:
            start = time.monotonic()
            with attempt.stage("ingest"):
                pipeline.ingest(resolved, folders, overwrite)
            taken["ingest"] = time.monotonic() - start
        later = [name for name in stages if name != "ingest"]
        if not later:
            return taken, []
        plans = pipeline.prepare(resolved, folders, later, overwrite)
        write_text(folders.base / "recipe.yaml", whole_yaml(plans[0].recipe))
        logs = f"logs of Ray, vLLM and DeepSpeed: {folders.logs}"
        console.print(f"{resolved.recipe.name} in {folders.base}, attempt {attempt.number} ({logs})")
        # Ray takes seconds to import: not before everything is known to be right.
        from s2d_ray.stages.cluster import gpus_counted, joined

        # Ray, when joined, puts a handler of its own in place.
        with (
            quiet(folders.logs / "driver.log"),
            joined(folders.logs),
            attempt.stopped_by_sigterm(),
            gpus_counted(attempt.use_gpus),
        ):
            for plan in pipeline.rounds(plans, later):
                for name in later:
                    start = time.monotonic()
                    number = plan.round if len(plans) > 1 else None
                    console.print(f"[bold]{name}[/bold]" + (f" (round {number})" if number else ""))
                    with attempt.stage(name, number):
                        pipeline.STAGES[name](plan)
                    taken[name] = taken.get(name, 0.0) + time.monotonic() - start
    return taken, plans


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What it returns; in a thread of its own where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
