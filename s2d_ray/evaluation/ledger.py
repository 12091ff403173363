"""What distilling cost in generated tokens, and after how many requests it has paid for itself."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_ray.artifacts import part_files


@dataclass(frozen=True, slots=True)
class Ledger:
    """Generated tokens spent on distilling against those that it saves. Training is not generation."""

    generated_tokens: int
    """By System 2 over the whole corpus, intermediate and final, rejected prompts included."""
    tokens_per_prompt: float | None
    tokens_per_accepted: float | None
    """Per prompt that became a training example; None where none did."""
    saved_per_request: float | None
    """Tokens that System 2 generates for an answer and the distilled model does not; negative where it costs more."""
    break_even_requests: int | None
    """Requests answered by the distilled model instead of System 2 that pay for `generated_tokens`; None if never."""


def generated_tokens(candidates: Path) -> int:
    """Sum over a folder of rows of schema `CANDIDATES`, reading nothing but the counts."""
    total = 0
    for path in part_files(candidates):
        file = pq.ParquetFile(path)
        # The name between the levels of a nested column depends on who wrote the file.
        paths = (file.schema.column(i).path for i in range(len(file.schema)))
        [counts] = [p for p in paths if p.endswith(".completion_tokens")]
        for batch in file.iter_batches(columns=[counts]):
            steps = pc.list_flatten(pc.struct_field(pc.list_flatten(batch.column(0)), "steps"))
            total += pc.sum(pc.struct_field(steps, "completion_tokens")).as_py() or 0
    return total


def balance(generated: int, prompts: int, accepted: int, system2: float | None, distilled: float | None) -> Ledger:
    """The ledger, from counts and from both arms' generated tokens per answer."""
    saved = None if system2 is None or distilled is None else system2 - distilled
    return Ledger(
        generated_tokens=generated,
        tokens_per_prompt=generated / prompts if prompts else None,
        tokens_per_accepted=generated / accepted if accepted else None,
        saved_per_request=saved,
        break_even_requests=ceil(generated / saved) if saved is not None and saved > 0 else None,
    )
