"""What report.json and overview.json hold: the pages are drawn from these models alone, and programs may read them.

`report.schema.json` and `overview.schema.json` beside this module say the same as JSON Schema;
`python -m s2d_ray.report.schema` writes them. A change that a reader would notice raises `schema_version`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from s2d_ray.arms import CoreArm
from s2d_ray.data.files import read_json
from s2d_ray.data.manifests import VoteShares
from s2d_ray.errors import UserError
from s2d_ray.evaluation.benchmarks import Benchmark
from s2d_ray.evaluation.constant import Constant
from s2d_ray.evaluation.frontier import Frontier
from s2d_ray.evaluation.general import General
from s2d_ray.evaluation.judging import Judged
from s2d_ray.evaluation.metrics import ArmScores, Precision, Score
from s2d_ray.evaluation.statistics import Paired
from s2d_ray.evaluation.verdict import Conclusion, Verdict
from s2d_ray.recipes.strict import Strict, parse
from s2d_ray.report.ledger import Ledger
from s2d_ray.report.sections import (
    CalibratedCascade,
    Example,
    PaperResults,
    PromptCounts,
    Repeats,
    TrainingFigures,
)

VERSION = 4


class VersionedPage(Strict):
    """What is written for readers that may know another version of it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    schema_version: Literal[4] = 4
    """A reader refuses any other."""


class Report(VersionedPage):
    """Everything that the folders of a run hold. Arms are named as in `s2d_ray.arms`."""

    recipe: str
    """The recipe's name."""
    description: str
    """As the recipe has it; may be empty."""
    model: str
    """The base, as the recipe names it."""
    method: str
    """That was distilled."""
    metric: str
    """What accuracy is called here."""
    verdict: Verdict
    """On the prompts that decide."""
    decides: tuple[str, ...]
    """Subsets of the prompts that decide; empty where all do."""
    verdict_by_subset: Mapping[str, Verdict]
    """Subset, and `all` → the verdict as if these prompts alone decided. Empty where there is one subset, or nothing
    was trained."""
    frontier: Frontier | None
    """Accuracy against generated tokens on the prompts that decide; None where no student on another target answered.
    """
    lost: tuple[str, ...]
    """What got worse on things that were not trained, by more than the recipe allows: a clause each, of
    which the distilled model is the subject."""
    general: General | None
    """On replies and prompts that ship with the package; None where it was not measured, or there is no student."""
    benchmarks: tuple[Benchmark, ...]
    """On tasks of lm-eval; empty where the recipe names none, or there is no student."""
    judged: Judged | None
    """What a judge made of the arms' answers; None where the recipe asks for none."""
    arms: Mapping[str, ArmScores]
    """In the order of the tables; without those for which curation kept nothing."""
    inconsistency: str
    """What the share of questions whose answer changes among their forms is called."""
    constant: Constant | None
    """What one answer to every prompt gets right; None where the task has no few possible answers, or no labels."""
    consistent_by_design: tuple[str, ...]
    """Arms that judge in both orders: swapping the responses cannot change what they answer, but for sampling."""
    perturbations: tuple[str, ...]
    """Names of the perturbed forms of prompts that were asked too."""
    majority: Mapping[str, Mapping[int, Score]]
    """Arm → number of samples → their majority over all prompts; empty for runs of one sample."""
    reported: PaperResults | None
    """None where the paper does not have the task and method."""
    cascade: CalibratedCascade | None
    """None where the recipe asks for none, or there is no student."""
    comparisons: Mapping[str, Mapping[str, Paired]]
    """`<first>_vs_<second>` → subset → first minus second. The primary one alone has no adjusted p-value."""
    repeats: Repeats | None
    """None where each arm is trained once."""
    validation: Paired | None
    """By which a further round is run or not: the student minus the base on prompts held out for that alone, of which
    no other figure is. None where one round is run, or there is no student."""
    notes: tuple[str, ...]
    """What a reader of the tables has to know."""
    prompts: PromptCounts
    """Where the corpus went in curation."""
    vote_shares: VoteShares
    """How clear the votes of curation were."""
    precision: Precision | None
    """How often targets are right; None where the task has no labels."""
    ledger: Ledger
    """What distilling cost."""
    training: Mapping[str, TrainingFigures]
    """Arm → its training."""
    seconds: Mapping[str, float]
    """Stage → time; the controls' are added up under `control_<stage>`, those of other targets under `target_<stage>`,
    trainings with further seeds under `repeat_train`."""
    examples: tuple[Example, ...]
    """Held-out prompts with what every arm made of them."""
    settings: Mapping[str, Any]
    """The recipe, with every default."""
    source: str
    """Where the task's prompts are from."""
    versions: Mapping[str, str]
    """Package → version that evaluated."""


class OverviewLine(Strict):
    """One part of a mixture in one round, from its report."""

    round: int
    """From 1."""
    part: str
    """Empty where the run has no other."""
    task: str
    """The task's name."""
    method: str
    """That was distilled."""
    metric: str
    """What accuracy is called here."""
    verdict: Conclusion
    """On the prompts that decide."""
    reason: str
    """The sentence behind it."""
    corpus: int
    """Prompts."""
    kept: int
    """Prompts that became a training pair."""
    arms: Mapping[CoreArm, Score]
    """Over all prompts."""
    gain: Paired | None
    """The student minus the round's base; None without a student."""
    report: str
    """The report's page, relative to the overview's folder."""


class Rounds(Strict):
    """How many rounds there are."""

    wanted: int
    """As the recipe has it."""
    run: int
    """That have their reports."""
    outcome: str
    """Why there is no further one, or that there is one; empty where one round was wanted."""


class Overview(VersionedPage):
    """A run that has several reports."""

    recipe: str
    """The recipe's name."""
    description: str
    """As the recipe has it; may be empty."""
    model: str
    """The base of the first round, as the recipe names it."""
    lines: tuple[OverviewLine, ...]
    """By round, then in the order of the recipe."""
    rounds: Rounds
    """How far the rounds have come."""
    settings: Mapping[str, Any]
    """The recipe, with every default."""


def read_report(path: Path) -> Report:
    """The report in a report.json. Raises UserError where another version of this package wrote it."""
    content = read_json(path)
    if content.get("schema_version") != VERSION:
        recipe = content.get("recipe", "RECIPE")
        raise UserError(
            f"{path} was written by another version of s2d_ray: run `s2d report {recipe}`, as the run was started, "
            "which says what else to do"
        )
    return parse(Report, content, str(path))


SCHEMAS: Mapping[str, type[BaseModel]] = {"report.schema.json": Report, "overview.schema.json": Overview}
"""File beside this module → the model that it describes."""


def json_schema(model: type[BaseModel]) -> str:
    """The text of a schema file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, described in SCHEMAS.items():
        Path(__file__).with_name(name).write_text(json_schema(described))
