"""The token ledger, from stored candidates and from counts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_ray.evaluation.ledger import balance, generated_tokens
from s2d_ray.records import CANDIDATES, Candidates, Prompt, Sample, Step, candidates_to_row, user


def sample(*tokens: int) -> Sample:
    return Sample("a", "", "", tuple(Step("s", "a", "stop", 100, 50, n, 0.1) for n in tokens))


@pytest.mark.parametrize("compliant", [True, False])
def test_every_generated_token_is_counted_whoever_wrote_the_file(tmp_path: Path, compliant: bool) -> None:
    prompt = Prompt("p", [user("?")])
    parts = [
        [Candidates(prompt, [sample(3, 4), sample(5)]), Candidates(prompt, [], "failed")],
        [Candidates(prompt, [sample(), sample(100)])],
        [Candidates(prompt, [], "nothing but failures")],
    ]
    for number, part in enumerate(parts):
        table = pa.Table.from_pylist([candidates_to_row(c) for c in part], schema=CANDIDATES)
        pq.write_table(table, tmp_path / f"part-{number}.parquet", use_compliant_nested_type=compliant)
    assert generated_tokens(tmp_path) == 112


def test_distilling_is_paid_for_when_the_saved_tokens_reach_the_spent_ones() -> None:
    found = balance(generated=1001, prompts=100, accepted=50, system2=30, distilled=5)
    assert (found.tokens_per_prompt, found.tokens_per_accepted, found.saved_per_request) == (10.01, 20.02, 25)
    assert found.break_even_requests == 41


@pytest.mark.parametrize(("system2", "distilled"), [(5, 5), (5, 9), (None, 5), (5, None)])
def test_what_saves_nothing_never_pays(system2: float | None, distilled: float | None) -> None:
    assert balance(1000, 100, 50, system2, distilled).break_even_requests is None


def test_nothing_accepted_has_no_price() -> None:
    assert balance(1000, 100, 0, 30, 5).tokens_per_accepted is None
