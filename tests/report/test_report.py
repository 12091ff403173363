"""The report of a small run folder, written with the stages' own schemas and read back as a person's tools would."""

import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.curation.data_card import count_outcomes
from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import write_json
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
from s2d_ray.errors import UserError
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import Cascade, Serve
from s2d_ray.report.published import REPORTED
from s2d_ray.report.report import write_report
from s2d_ray.report.schema import read_report
from s2d_ray.tasks.task import Split, Task, Variant
from tests.manifests import candidates_manifest, write_lease

SCRIPT = "<script>alert(1)</script>"
PER_SUBSET = 40
NOTHING_KEPT = (
    "Curation kept none of 120 prompts, so there is nothing to train on: "
    "119 rejected (no | majority 119) and 1 failed (too long 1)."
)
# Of every ten prompts, how many each arm answers right.
SKILL = {
    "base": 2,
    "teacher": 6,
    "teacher_rar1": 4,
    "student": 7,
    "student_of_base": 3,
    "student_uncurated": 6,
}
ARMS = [arm for arm in SKILL if arm != "teacher_rar1"]
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

    @property
    def metric(self) -> str:
        return self.called

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        for subset in self.subsets:
            for i in range(PER_SUBSET):
                prompt = Prompt(f"{split}-{subset}-{i}", [user(f"{subset} {i}? {SCRIPT}")])
                group = ("even" if i % 2 else "odd") if subset in self.grouped else ""
                yield LabelledPrompt(prompt, [str(i)] if self.labelled else [], subset, group)

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
    names = {"rewrite": 20, "respond": 10} if arm == "teacher" else {"answer": 4}
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


def write_answers(folder: Path, task: Toy, arms: Sequence[str], samples: int) -> None:
    """Each arm is right as often as its skill says, and as if asked plainly in every second mirrored prompt.

    Of several samples the first is wrong, and the later ones are alike.
    """
    rows = []
    for i, item in enumerate(task.items("test", 0)):
        answer = item.prompt.prompt_id.rsplit("-")[-1]
        for arm in arms:
            text = answer if i % 10 < SKILL[arm] else "wrong" if i % 10 < 9 else ""
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
            branch = run if arm == "student" else run.control(arm)
            write_distilled(branch.distilled, task, keeps=arm not in untrained)
            write_model(branch.model, NOTHING_KEPT if arm in untrained else "")
    write_answers(run.evaluation, task, [arm for arm in arms if arm not in untrained], samples)
    return run


def report_of(recipe: Recipe, task: Toy, run: RunFolders) -> Any:
    """The content of report.json, newly written."""
    write_report(recipe, task, run)
    return json.loads((run.report / "report.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolders:
    run = write_run(tmp_path_factory.mktemp("run") / "toy", Toy())
    write_report(RECIPE, Toy(), run)
    return run


@pytest.fixture
def report(run: RunFolders) -> Any:
    return json.loads((run.report / "report.json").read_text())


@pytest.fixture
def html(run: RunFolders) -> str:
    return (run.report / "report.html").read_text()


def test_every_arm_is_scored_in_every_subset(report: Any) -> None:
    assert list(report["arms"]) == ARMS
    for arm in ARMS:
        skill, scores = SKILL[arm], report["arms"][arm]
        assert {subset: score["n"] for subset, score in scores["subsets"].items()} == {
            "doubt": 40,
            "plain": 40,
            "right": 40,
            "all": 120,
        }
        for score in scores["subsets"].values():
            assert score["accuracy"] == pytest.approx(skill / 10)
            assert score["low"] < skill / 10 < score["high"]
            assert score["unanswered"] == pytest.approx(0.1)
            assert score["scored_against"] == "reference"
        tokens = 30 if arm == "teacher" else 4
        assert scores["tokens_per_answer"] == scores["subsets"]["all"]["tokens_per_answer"] == tokens
        assert set(scores["by_group"]) == {"even", "odd"}
        assert scores["by_group"]["even"]["plain"]["n"] == 20


def test_prompts_add_up_to_the_corpus(report: Any) -> None:
    prompts = report["prompts"]
    assert prompts == {"corpus": 120, "kept": 80, "rejected": {"no | majority": 39}, "failed": {"too long": 1}}
    assert report["vote_shares"] == {"kept": {"0.75": 80}, "rejected": {"0.50": 39}}


@pytest.mark.parametrize(
    ("target", "threshold", "said"),
    [(0.8, -0.5, "It answers <b>100.0%</b> of the prompts"), (0.95, None, "so System 2 answers everything")],
)
def test_a_cascade_is_calibrated_where_the_recipe_asks_for_one(
    tmp_path: Path, report: Any, target: float, threshold: float | None, said: str
) -> None:
    run = write_run(tmp_path / "toy", Toy())
    recipe = RECIPE.model_copy(update={"serve": Serve(cascade=Cascade(target=target))})
    found = report_of(recipe, Toy(), run)["cascade"]
    # They differ in one prompt of ten, which only distilled System 1 answers right, and surely.
    assert found["calibration"]["threshold"] == threshold
    assert (found["calibration"]["at_threshold"] is None) == (threshold is None)
    assert [(point["threshold"], point["coverage"]["value"]) for point in found["curve"]] == [
        (-0.125, 0.8),
        (-0.5, 1.0),
    ]
    assert [point["agreement"]["value"] for point in found["curve"]] == pytest.approx([0.9, 0.9])
    assert said in (run.report / "report.html").read_text()
    assert said.replace("<b>", "").replace("</b>", "") in (run.report / "report.md").read_text()
    assert report["cascade"] is None


def test_precision_of_targets_is_above_that_of_raw_answers(report: Any) -> None:
    assert (report["precision"]["curated"]["value"], report["precision"]["curated"]["n"]) == (1.0, 80)
    assert report["precision"]["raw"]["value"] == pytest.approx((80 * 0.75 + 39 * 0.25) / 119)


def test_time_of_every_stage_is_there_and_the_controls_are_added_up(report: Any) -> None:
    assert report["seconds"] == {
        "generate": 60.0,
        "curate": 2.0,
        "train": 30.0,
        "evaluate": 5.0,
        "control_generate": 60.0,
        "control_curate": 4.0,
        "control_train": 60.0,
    }


def test_the_ledger_says_when_distilling_has_paid(report: Any) -> None:
    generated = 120 * 4 * 30
    assert report["ledger"] == {
        "steps": {
            "rewrite": {"calls": 480, "prompt": 480 * 9, "cached": 0, "generated": 480 * 20},
            "respond": {"calls": 480, "prompt": 480 * 9, "cached": 0, "generated": 480 * 10},
        },
        "work": {},
        "accepted": 80,
        "generated_tokens": generated,
        "tokens_per_prompt": 120,
        "tokens_per_accepted": generated / 80,
        "saved_per_request": 26,
        "break_even_requests": 554,
        "break_even_with_training": None,
    }


def test_a_part_bears_its_own_time_and_its_share_of_the_training(tmp_path: Path) -> None:
    whole = RunFolders(tmp_path / "toy")
    part = whole.round(2).part("one")
    write_run(part.base, Toy(), ["base", "teacher", "student"])
    (part.base / "model").rename(part.model)
    spent = {"seconds": 40.0, "gpu_seconds": 8.0}
    paths = ("round-2/parts/one/candidates", "round-2/model", "round-2/parts/two/candidates", "model")
    write_lease(whole.base, dict.fromkeys(paths, spent))
    # It gives 20 of the 80 pairs.
    own = RECIPE.model_copy(update={"train": RECIPE.train.model_copy(update={"max_examples": 20})})
    ledger = report_of(own, Toy(), part)["ledger"]
    assert ledger["work"] == {"generate": spent, "train": {"seconds": 10.0, "gpu_seconds": 2.0}}
    assert ledger["break_even_with_training"] == math.ceil(120 * 4 * 30 * 10 / 8 / 26)


def test_the_verdict_and_the_comparisons_are_of_the_same_answers(report: Any) -> None:
    assert report["verdict"]["verdict"] == "distils"
    assert set(report["verdict_by_subset"]) == {"right", "doubt", "plain"}
    difference = report["comparisons"]["student_vs_teacher"]["all"]
    assert (difference["n"], difference["first_only"], difference["second_only"]) == (120, 12, 0)
    assert {"student_vs_base", "teacher_vs_base"} < set(report["comparisons"])


def test_steps_that_were_trained_twice_are_shown_once(report: Any) -> None:
    curve = [(point["step"], point["loss"]) for point in report["training"]["student"]["curve"]]
    assert curve == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_examples_are_spread_over_the_subsets_and_show_how_the_teacher_came_to_its_answer(report: Any) -> None:
    examples = report["examples"]
    assert sorted(e["subset"] for e in examples) == sorted(["right", "doubt", "plain"] * 2)
    for example in examples:
        assert list(example["answers"]) == ARMS
        slow = example["answers"]["teacher"]
        assert [step["name"] for step in slow["steps"]] == ["rewrite", "respond"]
        assert slow["correct"] == (slow["text"] == example["references"][0])
        assert example["answers"]["student"]["steps"] == []


def test_the_note_on_lost_echoes_is_in_both_texts(run: RunFolders, html: str) -> None:
    for text in (html, (run.report / "report.md").read_text()):
        assert "A model that stops echoing loses that help" in text


class Page(HTMLParser):
    """Collects every element with its attributes; complains about one that is closed but not open."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closed out of turn"


def test_the_page_is_well_formed_and_asks_for_nothing(html: str) -> None:
    page = Page()
    page.feed(html)
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "onload", "onclick")
            assert not name.endswith("href") or (value or "").startswith("#")
    assert re.findall(r"https?:|@import|url\((?!#)", html) == []


def test_what_a_prompt_says_is_text_and_not_markup(html: str) -> None:
    assert SCRIPT not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_page_has_its_plots_verdict_and_recipe(html: str) -> None:
    assert html.count("<svg") == 4
    assert "Verdict: distils" in html
    assert "max_failed_share: 0.1" in html
    for label in ("no | majority", "Distilled, no curation", "optimizer step", "share of the samples"):
        assert label in html


def tables_of(text: str) -> int:
    """How many tables a Markdown text has; fails where one has rows of different widths."""
    tables = re.findall(r"(?:^\|.*\n)+", text.replace(r"\|", ""), re.MULTILINE)
    for table in tables:
        _, rule, *_ = table.splitlines()
        assert set(rule) == {"|", "-"}
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
    return len(tables)


def test_the_short_text_is_made_of_whole_tables(run: RunFolders) -> None:
    assert tables_of((run.report / "report.md").read_text()) == 5


def test_the_same_run_gives_the_same_report(run: RunFolders) -> None:
    before = {path.name: path.read_bytes() for path in run.report.iterdir()}
    write_report(RECIPE, Toy(), run)
    assert {path.name: path.read_bytes() for path in run.report.iterdir()} == before
    assert set(before) == {"report.json", "report.md", "report.html"}


def test_without_controls_references_and_subsets_the_report_says_what_it_measured(tmp_path: Path) -> None:
    task = Toy(labelled=False, subsets=("all",))
    run = write_run(tmp_path / "toy", task, ARMS[:3])
    report = report_of(RECIPE, task, run)
    assert list(report["arms"]) == ["base", "teacher", "student"]
    assert list(report["arms"]["student"]["subsets"]) == ["all"]
    assert report["precision"] is None
    assert report["notes"] == []
    assert report["verdict_by_subset"] == {}
    assert list(report["seconds"]) == ["generate", "curate", "train", "evaluate"]
    # Of ten prompts System 2 leaves one unanswered; the distilled model agrees on six right and two wrong ones.
    assert report["arms"]["teacher"]["subsets"]["all"]["accuracy"] == pytest.approx(0.9)
    assert report["arms"]["student"]["subsets"]["all"]["accuracy"] == pytest.approx(0.8)
    assert "agreement with System 2" in report["verdict"]["caveats"][0]
    assert "Agreement with System 2" in (run.report / "report.html").read_text()


def test_an_unfinished_stage_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    (run.model / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"model is not finished"):
        write_report(RECIPE, Toy(), run)


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "toy", "model": "tiny", "task": "toy", "method": "s2a"} | sections)


def written(run: RunFolders) -> tuple[str, str]:
    """Both texts of a report, checked for their form, with plain hyphens for dashes."""
    short, page = ((run.report / f"report.{kind}").read_text().replace("\N{EN DASH}", "-") for kind in ("md", "html"))
    assert tables_of(short)
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    return short, page


def test_the_share_that_changes_under_a_perturbation_is_shown_where_there_is_one(tmp_path: Path, html: str) -> None:
    task = Toy(mirrored=("plain",))
    run = write_run(tmp_path / "toy", task)
    report = report_of(RECIPE, task, run)
    assert report["perturbations"] == ["mirror"]
    scores, tokens = report["arms"]["student"]["subsets"], report["arms"]["student"]["tokens_per_answer"]
    assert scores["right"]["inconsistent"] is None
    # Of ten prompts every second keeps its answer, and the one that has none says nothing in its other form.
    assert (scores["plain"]["inconsistent"]["value"], scores["plain"]["inconsistent"]["n"]) == (20 / 36, 36)
    assert scores["all"]["inconsistent"] == scores["plain"]["inconsistent"]
    assert scores["plain"]["inconsistent"]["low"] < 20 / 36 < scores["plain"]["inconsistent"]["high"]
    assert (scores["plain"]["accuracy"], tokens) == (0.7, 4), "as without perturbations"
    shown = [e["answers"]["student"]["variants"] for e in report["examples"] if e["subset"] == "plain"]
    assert all(set(variants) == {"mirror"} for variants in shown)
    for text in written(run):
        assert "Inconsistent under mirror" in text
        assert "55.6" in text
    assert "Inconsistent under" not in html


def test_further_methods_are_arms_between_the_teacher_and_the_student(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), list(SKILL))
    report = report_of(RECIPE, Toy(), run)
    assert list(report["arms"]) == list(SKILL)
    assert report["arms"]["teacher_rar1"]["subsets"]["all"]["accuracy"] == pytest.approx(0.4)
    assert report["comparisons"]["student_vs_teacher_rar1"]["all"]["difference"] == pytest.approx(0.3)
    short, page = written(run)
    assert "| System 2 (rar1) | 40.0 " in short
    assert "Distilled System 1 against System 2 (rar1)" in short
    assert "<dt>System 2 (rar1)</dt>" in page
    assert list(report["training"]) == ["student", "student_of_base", "student_uncurated"]


def test_the_majority_of_the_first_samples_is_shown_with_what_it_costs(tmp_path: Path, report: Any) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3], samples=5)
    evaluate = {"samples": 5, "sampling": {"temperature": 0.6}}
    found = report_of(recipe(evaluate=evaluate), Toy(), run)["majority"]
    assert {arm: list(sizes) for arm, sizes in found.items()} == {arm: ["1", "5"] for arm in ARMS[:3]}
    one, five = found["student"]["1"], found["student"]["5"]
    assert (one["accuracy"], one["n"], one["tokens_per_answer"]) == (0, 120, 4)
    assert (five["accuracy"], five["n"], five["tokens_per_answer"]) == (pytest.approx(0.7), 120, 20)
    short, page = written(run)
    assert "| Distilled System 1 | 0.0 (0.0-3.1) | 4.0 | 70.0 (61.3-77.5) | 20.0 |" in short
    assert "Majority of the first samples" in page
    assert report["majority"] == {}


def test_groups_may_exist_in_one_subset_only(tmp_path: Path) -> None:
    task = Toy(grouped=("plain",))
    run = write_run(tmp_path / "toy", task)
    scores = report_of(RECIPE, task, run)["arms"]["student"]
    assert {group: {part: s["n"] for part, s in parts.items()} for group, parts in scores["by_group"].items()} == {
        "even": {"plain": 20, "all": 20},
        "odd": {"plain": 20, "all": 20},
    }
    assert scores["subsets"]["all"]["n"] == 120
    short, page = written(run)
    assert "| even | 20.0 (8.1-41.6, n 20) | 60.0 " in short
    assert "Only prompts of the kind even" in page


def test_a_task_says_what_its_score_is_called(tmp_path: Path, report: Any, html: str) -> None:
    task = Toy(called="agreement with people")
    run = write_run(tmp_path / "toy", task)
    assert report_of(RECIPE, task, run)["metric"] == "agreement with people"
    for text in written(run):
        assert "Agreement with people" in text
        assert "Accuracy" not in text
        assert "equals System 2" not in text, "it has references"
    assert "Agreement with people, with 95% interval" in written(run)[1], "in the plot too"
    assert report["metric"] == "accuracy"
    assert "Accuracy, with 95% interval" in html


def test_where_system_2_is_kept_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SKILL, "student", SKILL["base"])
    run = write_run(tmp_path / "toy", Toy(), ARMS)
    report = report_of(RECIPE, Toy(), run)
    assert report["verdict"]["verdict"] == "does not distil: keep System 2"
    assert report["arms"]["student"]["tokens_per_answer"] < report["arms"]["teacher"]["tokens_per_answer"]
    assert (report["ledger"]["saved_per_request"], report["ledger"]["break_even_requests"]) == (None, None)
    assert "| requests until they are saved again | never |" in (run.report / "report.md").read_text()


def test_where_nothing_was_kept_system_2_stays_and_the_rest_of_the_report_is_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS, untrained=["student"])
    report = report_of(RECIPE, Toy(), run)
    assert report["verdict"] == {
        "verdict": "does not distil: keep System 2",
        "reason": NOTHING_KEPT,
        "caveats": [],
    }
    assert report["verdict_by_subset"] == {}
    assert list(report["arms"]) == [arm for arm in ARMS if arm != "student"]
    assert report["arms"]["teacher"]["subsets"]["all"]["accuracy"] == pytest.approx(0.6)
    assert list(report["comparisons"]) == ["teacher_vs_base"]
    assert (report["prompts"]["kept"], report["precision"]) == (0, None)
    assert (report["ledger"]["break_even_requests"], report["ledger"]["tokens_per_accepted"]) == (None, None)
    assert report["seconds"]["train"] == 0
    assert list(report["training"]) == ["student_of_base", "student_uncurated"]
    assert report["notes"] == [], "the verdict says it"
    for text in written(run):
        assert "does not distil: keep System 2" in text
        assert NOTHING_KEPT in text


def test_where_nothing_was_trained_at_all_there_is_a_report_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3], untrained=["student"])
    report = report_of(RECIPE, Toy(), run)
    assert (list(report["arms"]), report["training"]) == (["base", "teacher"], {})
    _, page = written(run)
    assert "optimizer step" not in page


def test_a_control_for_which_nothing_was_kept_is_absent_with_a_note(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS, untrained=["student_of_base"])
    report = report_of(RECIPE, Toy(), run)
    assert list(report["arms"]) == [arm for arm in ARMS if arm != "student_of_base"]
    assert report["verdict"]["verdict"] == "distils"
    absent = f"Distilled from System 1 is absent. {NOTHING_KEPT}"
    assert report["notes"][0] == absent
    assert report["seconds"]["control_train"] == 30
    for text in written(run):
        assert absent in text


def test_a_part_of_a_mixture_that_kept_nothing_is_not_judged_by_what_the_others_taught(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS)
    for folders in (run, run.control("student_of_base")):
        shutil.rmtree(folders.distilled)
        write_distilled(folders.distilled, Toy(), keeps=False)
    report = report_of(RECIPE, Toy(), run)
    assert (report["verdict"]["verdict"], report["verdict"]["reason"]) == (
        "does not distil: keep System 2",
        NOTHING_KEPT,
    )
    assert report["arms"]["student"]["subsets"]["all"]["accuracy"] == pytest.approx(0.7)
    assert list(report["training"]) == ["student", "student_of_base", "student_uncurated"]
    notes = [
        f"{arm} was trained on the other parts of the mixture alone. {NOTHING_KEPT}"
        for arm in ("Distilled System 1", "Distilled from System 1")
    ]
    assert report["notes"][:-1] == notes
    for text in written(run):
        assert all(note in text for note in notes)


def test_the_papers_figures_stand_beside_the_runs_with_their_marks(tmp_path: Path) -> None:
    task = Toy(subsets=("all",))
    run = write_run(tmp_path / "toy", task, list(SKILL))
    found = report_of(recipe(task="last_letter", method="rar2"), task, run)["reported"]
    paper = REPORTED["last_letter", "rar2"]
    assert (found["metric"], found["finding"], found["finding_mark"]) == (
        paper.metric,
        paper.finding,
        paper.finding_mark,
    )
    assert [f["published"] for f in found["figures"]] == [asdict(f) for f in paper.figures]
    assert {f["published"]["arm"]: f["run"]["accuracy"] for f in found["figures"]} == pytest.approx(
        {arm: skill / 10 for arm, skill in SKILL.items()}
    )
    short, page = written(run)
    assert "## The paper's figures (Llama-2-70B-chat)" in short
    assert "| System 2 (rar1) | all | 39.5 | - | reported, unverified | 40.0 (" in short
    assert "| Distilled System 1 | all | 98.0 | - | published | 70.0 (" in short
    section = page.partition("figures (Llama-2-70B-chat)")[2].partition("</table>")[0]
    assert section.count('class="tag">reported, unverified<') == sum(f.mark != "published" for f in paper.figures)
    assert section.count('class="tag">published<') == 2, "one figure and the finding"


def test_the_papers_figures_are_of_its_task_and_compared_with_one_sample_of_the_run(
    tmp_path: Path, report: Any, html: str
) -> None:
    assert report["reported"] is None
    assert "Llama-2-70B-chat" not in html
    task, evaluate = Toy(subsets=("all",)), {"samples": 5, "sampling": {"temperature": 0.6}}
    maths = recipe(task="gsm8k", method="cot", evaluate=evaluate)
    found = report_of(maths, task, write_run(tmp_path / "five", task, ARMS[:3], samples=5))["reported"]
    assert [
        (f["published"]["arm"], f["published"]["tokens"], f["run"]["tokens_per_answer"]) for f in found["figures"]
    ] == [
        ("teacher", 270, 30),
        ("student", 18, 4),
    ]
    unlabelled = Toy(subsets=("all",), labelled=False)
    run = write_run(tmp_path / "unlabelled", unlabelled, ARMS[:3])
    found = report_of(recipe(task="gsm8k", method="cot"), unlabelled, run)["reported"]
    assert [f["run"] for f in found["figures"]] == [None, None], "agreement with System 2 is another measure"
    assert "| Distilled System 1 | all | 7.13 | 18 | published | - | - |" in written(run)[0]


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    evaluate = {"samples": 5, "sampling": {"temperature": 0.6}}
    task, own = Toy(subsets=("all",), mirrored=("all",)), recipe(task="last_letter", method="rar2", evaluate=evaluate)
    own = own.model_copy(update={"serve": Serve(cascade=Cascade(target=0.8))})
    run = write_run(tmp_path / "toy", task, list(SKILL), samples=5)
    written = write_report(own, task, run)
    assert (written.majority, written.reported, written.cascade) != ({}, None, None)
    assert read_report(run.report / "report.json") == written


@pytest.mark.parametrize("version", [None, 1, 3])
def test_a_report_of_another_version_is_refused_with_what_to_do(
    run: RunFolders, report: Any, tmp_path: Path, version: int | None
) -> None:
    path = tmp_path / "report.json"
    write_json(path, report | {"schema_version": version})
    with pytest.raises(UserError, match=r"^\S+ was .*: run `s2d evaluate toy --overwrite`, then `s2d report toy`$"):
        read_report(path)


def test_a_report_that_lacks_something_is_refused_in_one_line(report: Any, tmp_path: Path) -> None:
    del report["ledger"]["generated_tokens"]
    write_json(tmp_path / "report.json", report)
    with pytest.raises(UserError, match=r"report\.json: ledger\.generated_tokens: Field required$"):
        read_report(tmp_path / "report.json")


def test_a_loss_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS[:3])
    log = run.model / "training_log.jsonl"
    log.write_text(log.read_text().replace('"loss": 2.0', '"loss": NaN'))
    curve = [point["loss"] for point in report_of(RECIPE, Toy(), run)["training"]["student"]["curve"]]
    assert curve == [3.0, None, 1.0]
    assert "NaN" not in (run.report / "report.json").read_text()
