"""The ledger of tokens and time, from stored rows and from counts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from s2d_ray.data.records import CANDIDATES, DECISIONS, Candidates, Prompt, Row, Sample, Step, candidates_to_row, user
from s2d_ray.data.work import TimeSpent
from s2d_ray.report.ledger import Ledger, Tokens, balance, ledger_table, step_tokens

PROMPT = Prompt("p", [user("?")], {"name": "a field, not a step"})
STEPS = {"rewrite": Tokens(4, 800, 600, 100), "respond": Tokens(4, 400, 0, 900), "universal": Tokens(1, 50, 0, 1)}
WORK = {"generate": TimeSpent(100.0, 400.0), "curate": TimeSpent(10.0, 40.0), "train": TimeSpent(50.0, 160.0)}


def sample(*steps: tuple[str, int]) -> Sample:
    return Sample("a", "", "", tuple(Step(name, "a", "stop", 100, 50, n, 0.1) for name, n in steps))


def write(folder: Path, parts: list[list[Candidates]], **how: bool) -> None:
    for number, part in enumerate(parts):
        table = pa.Table.from_pylist([candidates_to_row(c) for c in part], schema=CANDIDATES)
        pq.write_table(table, folder / f"part-{number}.parquet", **how)


@pytest.mark.parametrize("compliant", [True, False])
def test_every_call_is_counted_for_its_step_whoever_wrote_the_file(tmp_path: Path, compliant: bool) -> None:
    parts = [
        [Candidates(PROMPT, [sample(("a", 3), ("b", 4)), sample(("a", 5))]), Candidates(PROMPT, [], "failed")],
        [Candidates(PROMPT, [sample(), sample(("b", 100))])],
        [Candidates(PROMPT, [], "nothing but failures")],
    ]
    write(tmp_path, parts, use_compliant_nested_type=compliant)
    assert step_tokens(tmp_path) == {"a": Tokens(2, 200, 100, 8), "b": Tokens(2, 200, 100, 104)}


def test_the_calls_of_rules_are_counted_too(tmp_path: Path) -> None:
    call = {"name": "universal", "prompt_tokens": 70, "cached_tokens": 30, "completion_tokens": 2}
    rows: list[Row] = [{"prompt_id": "p", "calls": [call, call]}, {"prompt_id": "q", "calls": []}, {"prompt_id": "r"}]
    for status in ("kept", "rejected"):
        (tmp_path / f"status={status}").mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=DECISIONS), tmp_path / f"status={status}" / "0.parquet")
    assert step_tokens(tmp_path) == {"universal": Tokens(4, 280, 120, 8)}


def test_texts_are_not_read(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    step = Step("a", "", "stop", 1, 0, 1, 0.1)
    pq.write_table(
        pa.Table.from_pylist([candidates_to_row(Candidates(PROMPT, [Sample("a", steps=(step,))]))], schema=CANDIDATES),
        tmp_path / "short.parquet",
    )
    # As long as the counts of the row above; the text's bytes are then spoilt, so that reading them fails.
    rows = [candidates_to_row(Candidates(PROMPT, [Sample(long, steps=(step,))]))]
    spoilt = tmp_path / "long.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=CANDIDATES), spoilt, compression="none", use_dictionary=False)
    content = spoilt.read_bytes()
    begin = content.index(b"x" * 1000)
    spoilt.write_bytes(content[: begin - 40] + b"\xff" * 100 + content[begin + 60 :])
    with pytest.raises(OSError):
        pq.read_table(spoilt)
    assert step_tokens(tmp_path) == {"a": Tokens(2, 2, 0, 2)}


def test_distilling_is_paid_for_when_the_saved_tokens_reach_the_spent_ones() -> None:
    found = balance(STEPS, {}, prompts=100, accepted=50, teacher=30, student=5)
    assert (found.tokens_per_prompt, found.tokens_per_accepted, found.saved_per_request) == (10.01, 20.02, 25)
    assert found.break_even_requests == 41
    assert found.break_even_with_training is None, "the time was not kept"


def test_training_and_curation_are_paid_for_in_time() -> None:
    # Generating made 1001 tokens in 400 GPU-seconds; 600 GPU-seconds are worth 1501.5 tokens.
    assert balance(STEPS, WORK, 100, 50, 30, 5).break_even_with_training == 61
    without_gpus = {stage: TimeSpent(spent.seconds, 0.0) for stage, spent in WORK.items()}
    assert balance(STEPS, without_gpus, 100, 50, 30, 5).break_even_with_training == 65


@pytest.mark.parametrize(("teacher", "student"), [(5, 5), (5, 9), (None, 5), (5, None)])
def test_what_saves_nothing_never_pays(teacher: float | None, student: float | None) -> None:
    found = balance(STEPS, WORK, 100, 50, teacher, student)
    assert (found.break_even_requests, found.break_even_with_training) == (None, None)


def test_nothing_accepted_has_no_price() -> None:
    assert balance(STEPS, WORK, 100, 0, 30, 5).tokens_per_accepted is None


def shown(ledger: Ledger) -> dict[str, list[str]]:
    """The lines of the table by their first cell."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(ledger_table(ledger))
    lines = [line.split("  ") for line in captured.get().splitlines()]
    return {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}


def test_a_person_reads_each_step_and_what_an_accepted_example_cost() -> None:
    found = shown(balance(STEPS, WORK, 100, 50, 30, 5))
    assert found["tokens of rewrite"] == ["4", "800", "600", "100", "2.0"]
    assert found["train"] == ["50 s", "160 GPU-s"]
    assert found["paid for after"] == ["41", "by tokens"]
    never = shown(balance(STEPS, WORK, 100, 0, 30, 30))
    assert never["tokens of rewrite"][-1] == "none accepted"
    assert never["paid for after"] == ["never", "by tokens"]
