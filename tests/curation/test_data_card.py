"""The data card: counts that add up, and a folder that `datasets` loads as it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from s2d_ray.curation.data_card import STATUSES, count_outcomes, why_nothing_kept, write_data_card
from s2d_ray.curation.majority import Majority
from s2d_ray.curation.registry import TARGETS
from s2d_ray.curation.rule import Rule, curate_prompt
from s2d_ray.curation.unfiltered import Unfiltered
from s2d_ray.data.manifests import Outcomes, VoteShares
from s2d_ray.data.records import DECISIONS, Candidates, Row, assistant, user
from s2d_ray.recipes.recipe import Recipe
from tests.curation.parsed_samples import Words, candidates

A, B = "it is a", "it is b"
RECIPE = Recipe.model_validate({"name": "trial", "model": "m", "task": "geonames", "method": "s2a", "seed": 7})
INPUTS = {
    "model": {"name": "the-model", "identity": "abc"},
    "method": {"name": "s2a"},
    "samples": 4,
    "sampling": {"temperature": 0.6},
}
CORPUS = [
    *(candidates(A, A, A, A, prompt_id=f"k{n}") for n in range(5)),
    *(candidates(A, A, A, B, prompt_id=f"l{n}") for n in range(2)),
    *(candidates(A, A, B, B, prompt_id=f"r{n}") for n in range(3)),
    candidates("?", "!", prompt_id="s"),
    *(candidates(prompt_id=f"f{n}", error="the prompt is empty") for n in range(2)),
    candidates(prompt_id="g", error="the prompt has 900 tokens"),
]


async def decided(corpus: list[Candidates]) -> list[Row]:
    return [await curate_prompt(given, [Majority()], Words(), None) for given in corpus]


async def distilled(folder: Path, corpus: list[Candidates], rules: Sequence[Rule] = (Majority(),)) -> Outcomes:
    """A folder as the stage leaves it, a part per status and file; the counts that it wrote."""
    rows = await decided(corpus)
    columns = [DECISIONS.field(name) for name in DECISIONS.names if name != "status"]
    for status in STATUSES:
        mine = [row for row in rows if row["status"] == status]
        for number, part in enumerate((mine[:3], mine[3:])):
            if part:
                (folder / f"status={status}").mkdir(parents=True, exist_ok=True)
                table = pa.Table.from_pylist(part, schema=pa.schema(columns))
                pq.write_table(table, folder / f"status={status}" / f"part-{number}.parquet")
    counts = count_outcomes(rows)
    write_data_card(folder, RECIPE, rules, counts, INPUTS, "made up for tests; CC0")
    return counts


def front_matter(folder: Path) -> dict[str, Any]:
    empty, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    assert empty == ""
    parsed: dict[str, Any] = yaml.safe_load(front)
    return parsed


def tables(folder: Path) -> list[list[str]]:
    """The cells of every row of every table in the card."""
    lines = (folder / "README.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


async def test_the_counts_add_up_to_the_corpus() -> None:
    counts = count_outcomes(await decided(CORPUS))
    assert counts.model_dump() == {
        "rows": 14,
        "kept": 7,
        "rejected": {"tie between answers": 3, "no sample gives an answer": 1},
        "failed": {"the prompt is empty": 2, "the prompt has N tokens": 1},
        "vote_shares": {"kept": {"0.75": 2, "1.00": 5}, "rejected": {"0.50": 3}},
    }
    assert counts.rows == len(CORPUS) == counts.kept + sum(counts.rejected.values()) + sum(counts.failed.values())


def test_nothing_counts_to_nothing() -> None:
    counts = count_outcomes([])
    assert (counts.rows, counts.kept, counts.rejected, counts.failed) == (0, 0, {}, {})


async def test_the_card_says_where_every_prompt_went(tmp_path: Path) -> None:
    counts = await distilled(tmp_path, CORPUS)
    cells = tables(tmp_path)
    for row in (
        ["kept", "7"],
        ["rejected: tie between answers", "3"],
        ["rejected: no sample gives an answer", "1"],
        ["failed: the prompt is empty", "2"],
        ["failed: the prompt has N tokens", "1"],
        ["all", str(counts.rows)],
        ["0.50", "0", "3"],
        ["0.75", "2", "0"],
        ["1.00", "5", "0"],
    ):
        assert cells.count(row) == 1, row


async def test_the_card_says_how_it_was_made(tmp_path: Path) -> None:
    await distilled(tmp_path, CORPUS)
    text = (tmp_path / "README.md").read_text()
    for said in ("the-model", "abc", "s2a", "0.6", "Seed: 7", "majority", "made up for tests; CC0", "pyarrow"):
        assert said in text, said
    assert "{{" not in text and "{%" not in text


async def test_the_card_names_the_rules_that_were_applied_and_not_those_of_the_recipe(tmp_path: Path) -> None:
    await distilled(tmp_path, CORPUS, [Unfiltered()])
    [line] = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("- Curation rules")]
    assert "unfiltered" in line
    assert "majority" not in line


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("answer", "a plain prompt and the answer that System 2 agreed on"),
        ("shortest", "a plain prompt and the shortest of System 2's traces"),
        ("shortened", "a plain prompt and System 2's shortest trace to the answer on which it agreed, rewritten"),
    ],
)
async def test_the_card_says_what_is_trained(tmp_path: Path, target: str, said: str) -> None:
    await distilled(tmp_path, CORPUS, [Majority(), *TARGETS[target]])  # type: ignore[index]
    text = (tmp_path / "README.md").read_text()
    assert said in text
    assert ("No intermediate generation and no label is in it" in text) == (target == "answer")
    assert ("`target` is the\nanswer alone" in text) == (target != "answer")


async def test_a_reason_cannot_break_the_table(tmp_path: Path) -> None:
    await distilled(tmp_path, [candidates(A), candidates(prompt_id="f", error="a | b\nsecond line")])
    text = (tmp_path / "README.md").read_text()
    [line] = [line for line in text.splitlines() if "a \\| b" in line]
    assert line.startswith("| failed: a ")
    assert line.endswith("| 1 |")
    assert "\nsecond line" not in text
    assert line.replace("\\|", "").count("|") == 3


async def test_the_front_matter_points_at_what_is_there(tmp_path: Path) -> None:
    await distilled(tmp_path, CORPUS)
    configs = front_matter(tmp_path)["configs"]
    assert [config["config_name"] for config in configs] == list(STATUSES)
    assert [config["default"] for config in configs] == [True, False, False]
    assert [len(list(tmp_path.glob(config["data_files"]))) for config in configs] == [2, 2, 1]


async def test_an_outcome_that_no_prompt_had_is_left_out(tmp_path: Path) -> None:
    await distilled(tmp_path, CORPUS[:3])
    assert [config["config_name"] for config in front_matter(tmp_path)["configs"]] == ["kept"]


async def test_datasets_loads_the_kept_pairs_as_messages(tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = tmp_path / "distilled"
    await distilled(folder, CORPUS)
    pairs = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(pairs["prompt_id"]) == ["k0", "k1", "k2", "k3", "k4", "l0", "l1"]
    assert all(row["messages"] == [user("Which?"), assistant("a")] for row in pairs)
    for name, rows in (("rejected", 4), ("failed", 3)):
        others = load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert (len(others), set(others["target"])) == (rows, {""})


def test_an_empty_set_says_in_one_sentence_how_many_prompts_were_left_out_and_why() -> None:
    rejected = {"tie between answers": 2, "no majority": 50, "no sample gives an answer": 3, "b": 1, "a": 1}
    failed = {"too long": 1, "ValueError: what it quotes": 1, "ValueError: may be a prompt": 1}
    shares = VoteShares(kept={}, rejected={})
    told = why_nothing_kept(Outcomes(rows=60, kept=0, rejected=rejected, failed=failed, vote_shares=shares))
    assert told == (
        "Curation kept none of 60 prompts, so there is nothing to train on: 57 rejected (no majority 50, "
        "no sample gives an answer 3, tie between answers 2, other reasons 2) and 3 failed (ValueError 2, too long 1)."
    )


async def test_a_set_of_which_nothing_was_kept_has_its_card_too(tmp_path: Path) -> None:
    counts = await distilled(tmp_path, [candidates(A, B, prompt_id=f"r{n}") for n in range(3)])
    assert why_nothing_kept(counts).endswith("3 rejected (tie between answers 3).")
    assert [config["config_name"] for config in front_matter(tmp_path)["configs"]] == ["rejected"]
    assert ["rejected: tie between answers", "3"] in tables(tmp_path)
