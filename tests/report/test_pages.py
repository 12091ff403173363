"""The report's texts as a person reads them: well formed, whole, and with every figure of the run."""

import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.report.published import REPORTED
from s2d_ray.report.report import write_report
from tests.manifests import CORPUS
from tests.report.toy_run import (
    ARMS,
    NOTHING_KEPT,
    RECIPE,
    SCRIPT,
    SKILL,
    Toy,
    recipe,
    report_of,
    write_distilled,
    write_run,
)


def test_the_note_on_lost_echoes_is_in_both_texts(run: RunFolders, html: str) -> None:
    for text in (html, (run.report / "report.md").read_text()):
        assert "A model that stops echoing loses that help" in text


def test_what_was_left_out_of_the_prompts_is_in_both_texts_without_what_it_says(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), ARMS)
    Artifact(run.prompts, {}, CorpusManifest).open()
    counts = {"rows_read": 1000, "refused": {"no prompt": 9, "a turn by a tool": 3}, "held_out_too": 20, "alike": 5}
    made = CORPUS.model_copy(update=counts | {"first_refused": "/home/somebody/p.jsonl, line 7: no prompt"})
    Artifact(run.prompts, {}, CorpusManifest).finish(made)
    report_of(RECIPE, Toy(), run)
    for text in written(run):
        assert "Prompts: 12 of 1,000 rows refused: no prompt (9), a turn by a tool (3)." in text
        assert "20 prompts left out of training that are held out too, 5 of them but for case, spaces and punc" in text
        assert "somebody" not in text


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


@pytest.mark.slow
def test_the_same_run_gives_the_same_report(run: RunFolders) -> None:
    before = {path.name: path.read_bytes() for path in run.report.iterdir()}
    write_report(RECIPE, Toy(), run)
    assert {path.name: path.read_bytes() for path in run.report.iterdir()} == before
    assert set(before) == {"report.json", "report.md", "report.html"}


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


def test_the_share_of_questions_that_flip_is_a_headline_figure_under_its_own_name(tmp_path: Path, html: str) -> None:
    task = Toy(asked_together=True, mirrored=("plain",))
    run = write_run(tmp_path / "toy", task)
    report = report_of(RECIPE, task, run)
    assert report["inconsistency"] == "flips with the subset"
    scores = report["arms"]["student"]["subsets"]
    assert (scores["all"]["inconsistent"]["value"], scores["all"]["inconsistent"]["n"]) == (20 / 36, 36)
    assert scores["right"]["inconsistent"] is None
    short, page = written(run)
    assert (
        "Flips with the subset under mirror: Distilled System 1 55.6%, System 2 55.6%, System 1 (base) 55.6% "
        "of the questions that were asked in several forms." in short
    )
    [tiles] = re.findall(r'<section class="tiles">.*?</section>', page, re.DOTALL)
    assert "<small>Flips with the subset under mirror</small>\n<b>55.6%</b><small>Distilled System 1; " in re.sub(
        r"\n\s*", "\n", tiles
    )
    assert "Flips" not in html


@pytest.mark.slow
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


def test_the_share_without_an_answer_stands_beside_every_accuracy(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy())
    report_of(RECIPE, Toy(), run)
    short, page = written(run)
    row = next(line for line in short.splitlines() if line.startswith("| Distilled System 1 |"))
    assert row.count("70.0 (") == row.count("no answer 10.0)") == 4
    assert page.count("<br>10.0 no answer</small>") >= 4


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
        {arm: skill / 10 for arm, skill in SKILL.items() if arm != "base_few_shot"}
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


def test_the_number_of_clusters_stands_beside_that_of_prompts(tmp_path: Path, run: RunFolders) -> None:
    task = Toy(clustered=True)
    clustered = write_run(tmp_path / "toy", task)
    report_of(recipe(serve={"cascade": {"target": 0.8}}), task, clustered)
    short, page = written(clustered)
    assert "n 120 in 40 clusters, no answer" in short
    assert "n 40, no answer" in short, "a subset has one form of each"
    assert '<td class="n">120 in 40 clusters</td>' in page
    for text in (short, page):
        assert "Calibrated on 120 in 40 clusters of prompts" in text
        assert "prompts about one thing" in text
    for text in written(run):
        assert "clusters" not in text


def test_the_primary_comparison_is_marked_once_and_the_others_as_many(run: RunFolders) -> None:
    short, page = written(run)
    for text in (short, page):
        assert text.count("primary") == 2, "a mark and the note"
        assert text.count("Holm p ") == 19


def test_one_answer_to_all_is_a_line_where_there_are_few_answers(tmp_path: Path, report: Any) -> None:
    """Of 40 prompts a subset 14 have the first answer, and 13 each of the two others."""
    task = Toy(few=("A", "B", "tie"))
    run = write_run(tmp_path / "toy", task, ARMS[:3])
    found = report_of(RECIPE, task, run)["constant"]
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["subsets"]["plain"] == {"answer": "A", "accuracy": 14 / 40, "n": 40}
    assert found["subsets"]["all"] == {"answer": "A", "accuracy": 14 / 40, "n": 120}
    short, page = written(run)
    assert "| One answer to all | 35.0 (“A”) | 35.0 (“A”) | 35.0 (“A”) | 35.0 (“A”) | - |" in short
    assert "<small>“A”</small>" in page
    assert "an answer at random gets 33.3%" in short
    assert report["constant"] is None
    unlabelled = Toy(few=task.few, labelled=False)
    run = write_run(tmp_path / "unlabelled", unlabelled, ARMS[:3])
    assert report_of(RECIPE, unlabelled, run)["constant"] is None


def test_a_judge_of_both_orders_is_told_from_one_that_is_consistent(tmp_path: Path) -> None:
    task = Toy(mirrored=("plain",))
    run = write_run(tmp_path / "toy", task, ARMS[:3])
    both = recipe(method={"name": "bsm", "prompts": "few_shot"}, evaluate={"method": {"both_orders": True}})
    assert report_of(both, task, run)["consistent_by_design"] == ["teacher"]
    for text in written(run):
        assert "System 2 judges in both orders" in text
        assert text.count("by design") == 2, "in the teacher's line alone, of the subset and of all"
    assert report_of(RECIPE, task, run)["consistent_by_design"] == []


def test_system_1_shown_the_examples_comes_after_system_1_and_is_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "toy", Toy(), [*ARMS[:3], "base_few_shot"])
    report = report_of(RECIPE, Toy(), run)
    assert list(report["arms"]) == ["base", "base_few_shot", "teacher", "student"]
    assert report["comparisons"]["student_vs_base_few_shot"]["all"]["difference"] == pytest.approx(0.4)
    assert report["comparisons"]["teacher_vs_base_few_shot"]["all"]["difference"] == pytest.approx(0.3)
    short, page = written(run)
    assert "| System 1, few-shot | 30.0 " in short
    assert "<dt>System 1, few-shot</dt>" in page
