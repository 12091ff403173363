"""The report of a run: everything that its folders hold, as report.json, report.md and report.html.

report.json is complete; the other two are drawn from it and know nothing else.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s2d_ray.arms import CONTROLS, CORE_ARMS, is_further, label
from s2d_ray.curation.data_card import why_nothing_kept
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json_lines, read_rows, write_json
from s2d_ray.data.folders import TRAINING_LOG, RunFolders
from s2d_ray.data.lease import Work, work_done
from s2d_ray.data.records import Row
from s2d_ray.evaluation.cascade import calibrate, curve, trials
from s2d_ray.evaluation.metrics import (
    ALL,
    Answer,
    ArmScores,
    answer_of,
    compare,
    majorities,
    precision,
    score_arms,
    subsets_of,
)
from s2d_ray.evaluation.statistics import Paired
from s2d_ray.evaluation.verdict import KEEP_SYSTEM1, KEEP_SYSTEM2, Evidence, judge, untrained
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.examples import choose, examples
from s2d_ray.report.ledger import balance, step_tokens
from s2d_ray.report.published import reported_for
from s2d_ray.report.render import html_page, markdown_page
from s2d_ray.tasks.task import Task

COMPARISONS = (
    ("student", "teacher"),
    ("student", "base"),
    ("teacher", "base"),
    ("student", "student_of_base"),
    ("student", "student_uncurated"),
)
CURVE_POINTS = 400
"""Points of a loss curve at most: more cannot be told apart on a page."""

PRECISION_PROMPTS = 100_000
"""Labelled prompts, the first by id, that the precision of targets is computed from: more only take memory."""

Comparisons = Mapping[str, Mapping[str, Paired]]


def write_report(recipe: Recipe, task: Task, folders: RunFolders) -> dict[str, Any]:
    """Write the report of a finished run to `folders.report` and return the content of report.json.

    Raises UserError where a stage has not finished or an arm has no answers. Controls that were not run
    are left out, and so are arms for which curation kept nothing, with a note.
    """
    answers = [answer_of(row, task) for row in read_rows(folders.evaluation)]
    report = _report(recipe, task, folders, answers)
    folders.report.mkdir(parents=True, exist_ok=True)
    write_json(folders.report / "report.json", report)
    (folders.report / "report.md").write_text(markdown_page(report))
    (folders.report / "report.html").write_text(html_page(report))
    return report


def _report(recipe: Recipe, task: Task, folders: RunFolders, answers: Sequence[Answer]) -> dict[str, Any]:
    evaluated = _manifest(folders.evaluation)
    untrained_arms = dict(_untrained(recipe, folders))
    arms = score_arms(answers, task, [arm for arm in CORE_ARMS if arm not in untrained_arms])
    comparisons = _comparisons(arms, answers, task)
    controls = [arm for arm in CONTROLS if arm in arms or arm in untrained_arms]
    branches = {"student": folders} | {arm: folders.control(arm) for arm in controls}
    chosen = choose(answers, recipe.evaluate.examples)
    by_samples = majorities(answers, recipe.evaluate.samples, task)
    verdict = _verdicts(arms, comparisons, recipe.evaluate.margin, untrained_arms)
    return {
        "recipe": recipe.name,
        "description": recipe.description,
        "model": recipe.model,
        "method": recipe.method.name,
        "metric": _metric(arms, task),
        "verdict": verdict,
        "arms": {name: _arm(scores) for name, scores in arms.items()},
        "perturbations": sorted({name for answer in answers for name in answer.variants}),
        "majority": _majority(by_samples) if recipe.evaluate.samples > 1 else {},
        "reported": _reported(recipe, by_samples[1]),
        "cascade": _cascade(recipe, task, folders) if "student" in arms else None,
        "comparisons": {name: {s: asdict(p) for s, p in parts.items()} for name, parts in comparisons.items()},
        "notes": _notes(arms, subsets_of(answers), untrained_arms),
        "prompts": _prompts(folders),
        "vote_shares": _manifest(folders.distilled)["vote_shares"],
        "precision": _precision(recipe, task, folders),
        "ledger": _ledger(recipe, arms, folders, saves=verdict["verdict"] not in (KEEP_SYSTEM1, KEEP_SYSTEM2)),
        "training": dict(_trainings({arm: branch for arm, branch in branches.items() if arm in arms})),
        "seconds": _seconds(float(evaluated["seconds"]), branches),
        "examples": examples(read_rows(folders.evaluation), answers, chosen, task),
        "settings": recipe.model_dump(mode="json"),
        "source": task.source,
        "versions": evaluated["versions"],
    }


def _untrained(recipe: Recipe, folders: RunFolders) -> Iterator[tuple[str, str]]:
    """Each arm for which curation kept nothing, with the sentence that says so."""
    branches = {"student": folders} | {arm: folders.control(arm) for arm in CONTROLS if recipe.evaluate.controls}
    for arm, branch in branches.items():
        if branch.model.exists() and not (curated := _manifest(branch.distilled))["kept"]:
            yield arm, why_nothing_kept(curated)


def _comparisons(arms: Mapping[str, ArmScores], answers: Sequence[Answer], task: Task) -> Comparisons:
    further = [("student", arm) for arm in arms if is_further(arm)]
    return {
        f"{first}_vs_{second}": compare(answers, first, second, task)
        for first, second in (*COMPARISONS, *further)
        if first in arms and second in arms
    }


def _metric(arms: Mapping[str, ArmScores], task: Task) -> str:
    against = arms["base"].subsets[ALL].scored_against
    return "agreement with System 2" if against == "teacher" else task.metric


def _majority(by_samples: Mapping[int, Mapping[str, ArmScores]]) -> dict[str, dict[str, Any]]:
    """Arm → number of samples → the score of their majority over all prompts."""
    found: dict[str, dict[str, Any]] = {}
    for k, arms in by_samples.items():
        for arm, scores in arms.items():
            score = asdict(scores.subsets[ALL])
            found.setdefault(arm, {})[str(k)] = {
                key: score[key] for key in ("accuracy", "low", "high", "n", "tokens_per_answer")
            }
    return found


def _cascade(recipe: Recipe, task: Task, folders: RunFolders) -> dict[str, Any] | None:
    """The threshold of the cascade that the recipe asks for and what it gives, and its curve."""
    rule = recipe.serve.cascade
    if rule is None:
        return None
    found = trials(read_rows(folders.evaluation), rule, task)
    points = [asdict(point) for point in curve(found)]
    return asdict(calibrate(found, rule.target)) | {"confidence": rule.confidence, "curve": points}


def _reported(recipe: Recipe, one_sample: Mapping[str, ArmScores]) -> dict[str, Any] | None:
    """The paper's results for this task and method; with each figure the run's own, of one sample.

    A run scored against System 2 has none to compare.
    """
    paper = reported_for(recipe.task.name, recipe.method.name)
    if paper is None:
        return None
    figures = []
    for figure in paper.figures:
        arm = one_sample.get(figure.arm)
        score = arm.subsets.get(figure.subset) if arm else None
        run = asdict(score) if score and score.scored_against == "reference" else None
        figures.append(asdict(figure) | {"run": run})
    return asdict(paper) | {"figures": figures}


def _manifest(folder: Path) -> dict[str, Any]:
    return Artifact.existing(folder).manifest


def _arm(scores: ArmScores) -> dict[str, Any]:
    by_group = {group: {s: asdict(score) for s, score in parts.items()} for group, parts in scores.by_group.items()}
    subsets = {subset: asdict(score) for subset, score in scores.subsets.items()}
    return {**subsets, "by_group": by_group, "tokens_per_answer": scores.tokens_per_answer}


def _verdicts(
    arms: Mapping[str, ArmScores], comparisons: Comparisons, margin: float, untrained_arms: Mapping[str, str]
) -> dict[str, Any]:
    """The verdict over all prompts, and each subset's beside it: a mixture can hide either way."""
    if "student" in untrained_arms:
        return asdict(untrained(untrained_arms["student"])) | {"by_subset": {}}
    verdicts = {}
    for subset in comparisons["student_vs_teacher"]:
        evidence = Evidence(
            base=arms["base"].subsets[subset],
            teacher=arms["teacher"].subsets[subset],
            student=arms["student"].subsets[subset],
            student_vs_teacher=comparisons["student_vs_teacher"][subset],
            student_vs_base=comparisons["student_vs_base"][subset],
            teacher_vs_base=comparisons["teacher_vs_base"][subset],
        )
        verdicts[subset] = asdict(judge(evidence, margin))
    return verdicts.pop(ALL) | {"by_subset": verdicts}


def _notes(arms: Mapping[str, ArmScores], subsets: Sequence[str], untrained_arms: Mapping[str, str]) -> list[str]:
    """What a reader of the tables has to know about this run's arms and subsets."""
    notes = []
    for arm, reason in untrained_arms.items():
        if arm in arms:  # The other parts of a mixture make a model all the same.
            notes.append(f"{label(arm)} was trained on the other parts of the mixture alone. {reason}")
        elif arm in CONTROLS:
            notes.append(f"{label(arm)} is absent. {reason}")
    if {"right", "doubt"} <= set(subsets) and "student" in arms:
        notes.append(_lost_echo(arms["base"], arms["student"]))
    return notes


def _lost_echo(before: ArmScores, after: ArmScores) -> str:
    base, ours = before.subsets, after.subsets
    figures = "; ".join(f"{s}: {ours[s].accuracy:.1%} after, {base[s].accuracy:.1%} before" for s in ("right", "doubt"))
    return (
        "In the subsets right and doubt the opinion in the prompt names the right answer, so a model that merely "
        "echoes opinions scores there without knowing anything. A model that stops echoing loses that help: "
        f"distilled against System 1, {figures}."
    )


def _prompts(folders: RunFolders) -> dict[str, Any]:
    curated = _manifest(folders.distilled)
    return {"corpus": curated["rows"], **{key: curated[key] for key in ("kept", "rejected", "failed")}}


def _decisions(folders: RunFolders) -> Iterator[Row]:
    # Curation writes a folder per status, so the status is in the path and not in the files.
    for status in ("kept", "rejected"):
        for row in read_rows(folders.distilled / f"status={status}", ["prompt_id", "target", "votes"]):
            yield row | {"status": status}


def _precision(recipe: Recipe, task: Task, folders: RunFolders) -> dict[str, Any] | None:
    labelled = (item for item in task.items("train", recipe.seed) if item.references)
    chosen = heapq.nsmallest(PRECISION_PROMPTS, labelled, key=lambda item: item.prompt.prompt_id)
    references = {item.prompt.prompt_id: item.references for item in chosen}
    found = precision(_decisions(folders), references, task) if references else None
    return asdict(found) if found else None


def _ledger(recipe: Recipe, arms: Mapping[str, ArmScores], folders: RunFolders, *, saves: bool) -> dict[str, Any]:
    """`saves` is False where the distilled model is of no use: few tokens for wrong answers are no savings."""
    counts = _prompts(folders)
    slow = arms["teacher"].tokens_per_answer
    fast = arms["student"].tokens_per_answer if saves else None
    steps = step_tokens(folders.candidates) | step_tokens(folders.distilled)
    work = _work(recipe, folders, counts["kept"])
    return asdict(balance(steps, work, counts["corpus"], counts["kept"], slow, fast))


def _work(recipe: Recipe, folders: RunFolders, kept: int) -> dict[str, Work]:
    """Stage → time over all attempts; of a mixture's training the share of this part's pairs."""
    spent = work_done(folders.run)
    made = {"generate": folders.candidates, "curate": folders.distilled, "train": folders.model}
    paths = {stage: str(path.relative_to(folders.run)) for stage, path in made.items()}
    work = {stage: spent[path] for stage, path in paths.items() if path in spent}
    if "train" in work and "examples" in (trained := _manifest(folders.model)):
        own = min(kept, recipe.train.max_examples or kept)
        work["train"] = work["train"].share(own / (trained["examples"] + trained["left_out_too_long"]))
    return work


def _trainings(branches: Mapping[str, RunFolders]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each trained arm with its training's figures and loss curve."""
    for arm, branch in branches.items():
        made = _manifest(branch.model)
        figures = {key: made[key] for key in ("examples", "steps", "tokens", "seconds", "tokens_per_second")}
        yield arm, figures | {"curve": _loss_curve(branch)}


def _loss_curve(branch: RunFolders) -> list[dict[str, float]]:
    log = read_json_lines(branch.model / TRAINING_LOG)
    # A training that went on from a checkpoint has logged the steps after it twice.
    curve = list({entry["step"]: {"step": entry["step"], "loss": entry["loss"]} for entry in log}.values())
    return curve[:: max(1, -(-len(curve) // CURVE_POINTS))]


def _seconds(evaluated: float, branches: Mapping[str, RunFolders]) -> dict[str, float]:
    """Seconds of each stage; the controls' are added up under `control_` and the stage."""
    seconds: dict[str, float] = {}
    for arm, branch in branches.items():
        prefix = "control_" if arm in CONTROLS else ""
        for stage, folder in (("generate", branch.candidates), ("curate", branch.distilled), ("train", branch.model)):
            # The uncurated control trains on the main branch's candidates and has none of its own.
            if arm not in CONTROLS or folder.exists():
                key = prefix + stage
                seconds[key] = seconds.get(key, 0.0) + float(_manifest(folder)["seconds"])
        seconds.setdefault("evaluate", evaluated)
    return seconds
