"""A small run folder, written with the stages' own schemas."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.arms import training_of
from s2d_ray.curation.data_card import count_outcomes
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import DistilledManifest, EvaluationManifest, Manifest, ModelManifest
from s2d_ray.data.records import (
    ANSWERS,
    CANDIDATES,
    DECISIONS,
    Candidates,
    LabelledPrompt,
    Prompt,
    Row,
    Sample,
    Step,
    candidates_to_row,
    labelled_to_row,
    prompt_to_row,
    user,
)
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.report import write_report
from s2d_ray.tasks.task import Split, Task, Variant
from tests.manifests import candidates_manifest

SCRIPT = "<script>alert(1)</script>"
PER_SUBSET = 40
NOTHING_KEPT = (
    "Curation kept none of 120 prompts, so there is nothing to train on: "
    "119 rejected (no | majority 119) and 1 failed (too long 1)."
)
# Of every ten prompts, how many each arm answers right.
SKILL = {
    "base": 2,
    "base_few_shot": 3,
    "teacher": 6,
    "teacher_rar1": 4,
    "student": 7,
    "student_of_base": 3,
    "student_uncurated": 6,
}
ARMS = [arm for arm in SKILL if arm not in ("base_few_shot", "teacher_rar1")]
TARGET_SKILL = {"student_shortest": 6, "student_shortened": 3, "student_internalised": 7}
ANSWER_TOKENS = {"student_shortest": 12, "student_shortened": 8, "student_internalised": 2}
"""Of arms that generate more or fewer than four."""
RECIPE = Recipe.model_validate(
    {"name": "toy", "model": "tiny", "task": "toy", "method": "s2a", "evaluate": {"examples": 6}}
)


class Toy(Task):
    """Prompt i has answer i; a text is its own answer."""

    labelled: bool = True
    subsets: tuple[str, ...] = ("right", "doubt", "plain")
    grouped: tuple[str, ...] = subsets
    """Subsets whose prompts are of a kind, even or odd."""
    mirrored: tuple[str, ...] = ()
    """Subsets whose prompts may also be asked in mirror writing."""
    called: str = "accuracy"
    asked_together: bool = False
    """Prompt i of every subset puts the same question."""
    clustered: bool = False
    """What is asked in several subsets is about the same."""
    few: tuple[str, ...] = ()
    """Answers, where there are few: of these prompt i has answer i modulo their number."""

    @property
    def metric(self) -> str:
        return self.called

    @property
    def inconsistency(self) -> str:
        return "flips with the subset" if self.asked_together else super().inconsistency

    def question(self, prompt: Prompt) -> str:
        return prompt.prompt_id.rsplit("-")[-1] if self.asked_together else super().question(prompt)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.few

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        for subset in self.subsets:
            for i in range(PER_SUBSET):
                prompt = Prompt(f"{split}-{subset}-{i}", [user(f"{subset} {i}? {SCRIPT}")])
                group = ("even" if i % 2 else "odd") if subset in self.grouped else ""
                about = f"about {i}" if self.clustered else ""
                answer = self.few[i % len(self.few)] if self.few else str(i)
                yield LabelledPrompt(prompt, [answer] if self.labelled else [], subset, group, about)

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text or None

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        mirror = Prompt(prompt.prompt_id, [user(prompt.text[::-1])])
        mirrored = prompt.prompt_id.split("-")[1] in self.mirrored
        return [Variant("mirror", mirror, lambda answer: answer[::-1])] if mirrored else []

    @property
    def source(self) -> str:
        return "made up"


def sample(arm: str, text: str, variant: str = "") -> Sample:
    names = {"rewrite": 20, "respond": 10} if arm == "teacher" else {"answer": ANSWER_TOKENS.get(arm, 4)}
    sure = -0.5 if text == "wrong" else -0.125
    steps = tuple(Step(name, f"{name} says {text}", "stop", 9, 0, tokens, 0.1, sure) for name, tokens in names.items())
    return Sample(text, variant, "", steps)


def finish(folder: Path, rows: Sequence[Row], schema: pa.Schema, manifest: Manifest) -> None:
    artifact = Artifact(folder, {}, type(manifest))
    artifact.open()
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-0.parquet")
    artifact.finish(manifest)


def write_distilled(folder: Path, task: Toy, keeps: bool = True) -> None:
    """Two thirds kept, all right, or nothing; the rest rejected, and one prompt failed."""
    blank: Row = {"target": "", "rule": "", "vote_share": None, "votes": []}
    rows: list[Row] = []
    for n, item in enumerate(task.items("train", 0)):
        i = item.prompt.prompt_id.rsplit("-")[-1]
        row = prompt_to_row(item.prompt) | blank
        if n == 0:
            rows.append(row | {"status": "failed", "reason": "too long"})
        elif n % 3 and keeps:
            votes = {"vote_share": 0.75, "votes": [i, i, i, "x"]}
            rows.append(row | votes | {"status": "kept", "target": i, "reason": ""})
        else:
            votes = {"vote_share": 0.5, "votes": ["x", "x", i, ""]}
            rows.append(row | votes | {"status": "rejected", "reason": "no | majority"})
    schema = pa.schema([f for f in DECISIONS if f.name != "status"])
    for status in ("kept", "rejected", "failed"):
        part = folder / f"status={status}"
        part.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([r for r in rows if r["status"] == status], schema), part / "0.parquet")
    finish(folder, [], schema, DistilledManifest(**dict(count_outcomes(rows)), seconds=2.0))


def write_model(folder: Path, skipped: str = "") -> None:
    if skipped:
        finish(folder, [], ANSWERS, ModelManifest(skipped=skipped, seconds=0.0))
        return
    figures = {"examples": 79, "left_out_too_long": 1, "steps": 3, "tokens": 900, "tokens_per_second": 30.0}
    finish(folder, [], ANSWERS, ModelManifest(**figures, seconds=30.0))
    # A crash after step 2 went back to step 1, so 2 was logged twice.
    entries = [(1, 3.0), (2, 2.5), (2, 2.0), (3, 1.0)]
    log = [{"step": s, "loss": x, "learning_rate": 1e-4, "tokens": 300, "seconds": 10} for s, x in entries]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def skill(arm: str) -> int:
    """Of a training with another seed: one of ten fewer for each."""
    name, number = training_of(arm)
    return (SKILL | TARGET_SKILL)[name] - (number - 1)


def write_answers(folder: Path, task: Toy, arms: Sequence[str], samples: int, split: Split = "test") -> None:
    """Each arm is right as often as its skill says, and as if asked plainly in every second mirrored prompt.

    Of several samples the first is wrong, and the later ones are alike.
    """
    rows = []
    for i, item in enumerate(task.items(split, 0)):
        answer = item.prompt.prompt_id.rsplit("-")[-1]
        for arm in arms:
            text = answer if i % 10 < skill(arm) else "wrong" if i % 10 < 9 else ""
            given = [sample(arm, "wrong" if n == 0 and samples > 1 else text) for n in range(samples)]
            for variant in task.variants(item.prompt):
                given.append(sample(arm, text[::-1] if i % 2 else f"not {text}", variant.name))
            rows.append(labelled_to_row(item) | {"arm": arm, "samples": [asdict(g) for g in given], "error": ""})
    finish(folder, rows, ANSWERS, EvaluationManifest(rows=len(rows), arms=tuple(arms), seconds=5.0))


def write_run(
    base: Path, task: Toy, arms: Sequence[str] = ARMS, untrained: Sequence[str] = (), samples: int = 1
) -> RunFolders:
    """The folders of a finished run; arms in `untrained` had nothing to train on."""
    run = RunFolders(base)
    candidates = [Candidates(item.prompt, [sample("teacher", "x")] * 4) for item in task.items("train", 0)]
    manifest = candidates_manifest(len(candidates), seconds=60.0)
    finish(run.candidates, [candidates_to_row(c) for c in candidates], CANDIDATES, manifest)
    if "student_of_base" in arms:
        finish(run.control("student_of_base").candidates, [], CANDIDATES, manifest)
    for arm in arms:
        if arm.startswith("student"):
            name, number = training_of(arm)
            branch = run if name == "student" else run.control(name)
            if number == 1:
                write_distilled(branch.distilled, task, keeps=arm not in untrained)
            write_model(branch.repeat(number).model, NOTHING_KEPT if arm in untrained else "")
    answering = [arm for arm in arms if arm not in untrained]
    write_answers(run.evaluation, task, answering, samples)
    write_answers(run.validation, task, [arm for arm in answering if arm in ("base", "student")], 1, "valid")
    return run


def report_of(recipe: Recipe, task: Toy, run: RunFolders) -> Any:
    """The content of report.json, newly written."""
    write_report(recipe, task, run)
    return json.loads((run.report / "report.json").read_text())


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "toy", "model": "tiny", "task": "toy", "method": "s2a"} | sections)
