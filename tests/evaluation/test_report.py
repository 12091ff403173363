"""The report of a small run folder, written with the stages' own schemas and read back as a person's tools would."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.artifacts import Artifact, RunFolders
from s2d_ray.config import Recipe
from s2d_ray.curation.data_card import count_outcomes
from s2d_ray.errors import UserError
from s2d_ray.evaluation.report import write_report
from s2d_ray.records import (
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
from s2d_ray.tasks.task import Split, Task

SCRIPT = "<script>alert(1)</script>"
PER_SUBSET = 40
# Of every ten prompts, how many each arm answers right.
SKILL = {"system1": 2, "system2": 6, "distilled": 7, "distilled_system1": 3, "distilled_unfiltered": 6}
RECIPE = Recipe.model_validate(
    {"name": "toy", "model": "tiny", "task": "toy", "method": "s2a", "evaluate": {"examples": 6}}
)


class Toy(Task):
    """Prompt i has answer i; a text is its own answer."""

    labelled: bool = True
    subsets: tuple[str, ...] = ("right", "doubt", "plain")

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        for subset in self.subsets:
            for i in range(PER_SUBSET):
                prompt = Prompt(f"{split}-{subset}-{i}", [user(f"{subset} {i}? {SCRIPT}")])
                yield LabelledPrompt(prompt, [str(i)] if self.labelled else [], subset, "even" if i % 2 else "odd")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text or None

    @property
    def source(self) -> str:
        return "made up"


def sample(arm: str, text: str) -> Sample:
    names = {"rewrite": 20, "respond": 10} if arm == "system2" else {"answer": 4}
    steps = tuple(Step(name, f"{name} says {text}", "stop", 9, 0, tokens, 0.1) for name, tokens in names.items())
    return Sample(text, "", "", steps)


def finish(folder: Path, rows: Sequence[Row], schema: pa.Schema, manifest: Mapping[str, Any]) -> None:
    artifact = Artifact(folder, {})
    artifact.open()
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-0.parquet")
    artifact.finish(manifest)


def write_distilled(folder: Path, task: Toy) -> None:
    """Two thirds kept, all right; the rest rejected, and one prompt failed."""
    blank: Row = {"target": "", "rule": "", "vote_share": None, "votes": []}
    rows: list[Row] = []
    for n, item in enumerate(task.items("train", 0)):
        i = item.prompt.prompt_id.rsplit("-")[-1]
        row = prompt_to_row(item.prompt) | blank
        if n == 0:
            rows.append(row | {"status": "failed", "reason": "too long"})
        elif n % 3:
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
    finish(folder, [], schema, {**count_outcomes(rows), "seconds": 2.0})


def write_model(folder: Path) -> None:
    manifest = {"examples": 79, "steps": 3, "tokens": 900, "seconds": 30.0, "tokens_per_second": 30.0}
    finish(folder, [], ANSWERS, manifest)
    # A crash after step 2 went back to step 1, so 2 was logged twice.
    entries = [(1, 3.0), (2, 2.5), (2, 2.0), (3, 1.0)]
    log = [{"step": s, "loss": x, "learning_rate": 1e-4, "tokens": 300, "seconds": 10} for s, x in entries]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def write_answers(folder: Path, task: Toy, arms: Sequence[str]) -> None:
    rows = []
    for i, item in enumerate(task.items("test", 0)):
        answer = item.prompt.prompt_id.rsplit("-")[-1]
        for arm in arms:
            text = answer if i % 10 < SKILL[arm] else "wrong" if i % 10 < 9 else ""
            rows.append(labelled_to_row(item) | {"arm": arm, "samples": [asdict(sample(arm, text))], "error": ""})
    finish(folder, rows, ANSWERS, {"rows": len(rows), "seconds": 5.0})


def write_run(base: Path, task: Toy, controls: bool = True) -> RunFolders:
    run = RunFolders(base)
    candidates = [Candidates(item.prompt, [sample("system2", "x")] * 4) for item in task.items("train", 0)]
    manifest = {"rows": len(candidates), "failed": 0, "seconds": 60.0}
    finish(run.candidates, [candidates_to_row(c) for c in candidates], CANDIDATES, manifest)
    write_distilled(run.distilled, task)
    write_model(run.model)
    if controls:
        finish(run.control("distilled_system1").candidates, [], CANDIDATES, manifest)
        for control in ("distilled_system1", "distilled_unfiltered"):
            write_distilled(run.control(control).distilled, task)
            write_model(run.control(control).model)
    write_answers(run.evaluation, task, list(SKILL) if controls else list(SKILL)[:3])
    return run


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
    assert list(report["arms"]) == list(SKILL)
    for arm, skill in SKILL.items():
        scores = report["arms"][arm]
        assert set(scores) == {"right", "doubt", "plain", "all", "by_group", "tokens_per_answer"}
        for subset, n in (("right", 40), ("doubt", 40), ("plain", 40), ("all", 120)):
            assert scores[subset]["n"] == n
            assert scores[subset]["accuracy"] == pytest.approx(skill / 10)
            assert scores[subset]["low"] < skill / 10 < scores[subset]["high"]
            assert scores[subset]["unanswered"] == pytest.approx(0.1)
            assert scores[subset]["scored_against"] == "reference"
        tokens = 30 if arm == "system2" else 4
        assert scores["tokens_per_answer"] == scores["all"]["tokens_per_answer"] == tokens
        assert set(scores["by_group"]) == {"even", "odd"}
        assert scores["by_group"]["even"]["plain"]["n"] == 20


def test_prompts_add_up_to_the_corpus(report: Any) -> None:
    prompts = report["prompts"]
    assert prompts == {"corpus": 120, "kept": 80, "rejected": {"no | majority": 39}, "failed": {"too long": 1}}
    assert report["vote_shares"] == {"kept": {"0.75": 80}, "rejected": {"0.50": 39}}


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


def test_the_verdict_and_the_comparisons_are_of_the_same_answers(report: Any) -> None:
    assert report["verdict"]["verdict"] == "distils"
    assert set(report["verdict"]["by_subset"]) == {"right", "doubt", "plain"}
    difference = report["comparisons"]["distilled_vs_system2"]["all"]
    assert (difference["n"], difference["first_only"], difference["second_only"]) == (120, 12, 0)
    assert {"distilled_vs_system1", "system2_vs_system1"} < set(report["comparisons"])


def test_steps_that_were_trained_twice_are_shown_once(report: Any) -> None:
    curve = [(point["step"], point["loss"]) for point in report["training"]["distilled"]["curve"]]
    assert curve == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_examples_are_spread_over_the_subsets_and_show_how_system2_came_to_its_answer(report: Any) -> None:
    examples = report["examples"]
    assert sorted(e["subset"] for e in examples) == sorted(["right", "doubt", "plain"] * 2)
    for example in examples:
        assert list(example["answers"]) == list(SKILL)
        slow = example["answers"]["system2"]
        assert [step["name"] for step in slow["steps"]] == ["rewrite", "respond"]
        assert slow["correct"] == (slow["text"] == example["references"][0])
        assert example["answers"]["distilled"]["steps"] == []


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


def test_the_short_text_is_made_of_whole_tables(run: RunFolders) -> None:
    lines = (run.report / "report.md").read_text().splitlines()
    rows = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    widths = [row.count("|") for row in rows]
    starts = [i for i, row in enumerate(rows) if row.startswith("|---")]
    assert len(starts) == 4
    for start, end in zip(starts, [*(s - 1 for s in starts[1:]), len(rows)], strict=True):
        assert len(set(widths[start - 1 : end])) == 1


def test_the_same_run_gives_the_same_report(run: RunFolders) -> None:
    before = {path.name: path.read_bytes() for path in run.report.iterdir()}
    write_report(RECIPE, Toy(), run)
    assert {path.name: path.read_bytes() for path in run.report.iterdir()} == before
    assert set(before) == {"report.json", "report.md", "report.html"}


def test_without_controls_references_and_subsets_the_report_says_what_it_measured(tmp_path: Path) -> None:
    task = Toy(labelled=False, subsets=("all",))
    run = write_run(tmp_path / "toy", task, controls=False)
    report = write_report(RECIPE, task, run)
    assert list(report["arms"]) == ["system1", "system2", "distilled"]
    assert set(report["arms"]["distilled"]) == {"all", "by_group", "tokens_per_answer"}
    assert report["precision"] is None
    assert report["notes"] == []
    assert report["verdict"]["by_subset"] == {}
    assert list(report["seconds"]) == ["generate", "curate", "train", "evaluate"]
    # Of ten prompts System 2 leaves one unanswered; the distilled model agrees on six right and two wrong ones.
    assert report["arms"]["system2"]["all"]["accuracy"] == pytest.approx(0.9)
    assert report["arms"]["distilled"]["all"]["accuracy"] == pytest.approx(0.8)
    assert "agreement with System 2" in report["verdict"]["caveats"][0]
    assert "Agreement with System 2" in (run.report / "report.html").read_text()


def test_an_unfinished_stage_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), controls=False)
    (run.model / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"model is not finished"):
        write_report(RECIPE, Toy(), run)
