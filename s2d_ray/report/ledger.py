"""What distilling cost, in tokens and time, and after how many requests it has paid for itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from s2d_ray.data.files import parquet_file, part_files
from s2d_ray.data.records import CALL_COUNTS
from s2d_ray.data.work import TimeSpent


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sums over model calls."""

    calls: int
    prompt: int
    """Read, those in `cached` included."""
    cached: int
    """Read without computing: the engine's prefix cache held them."""
    generated: int

    @property
    def computed(self) -> int:
        """Read by computing."""
        return self.prompt - self.cached

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.calls + other.calls,
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.generated + other.generated,
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was spent on distilling against what it saves. Training is not generation."""

    steps: Mapping[str, Tokens]
    """Each step of System 2 over the whole corpus, rejected prompts included, and of rules that ask the model."""
    work: Mapping[str, TimeSpent]
    """Stage → time over all attempts; empty for a run that kept no account of it."""
    accepted: int
    """Prompts that became a training example."""
    generated_tokens: int
    """In all steps."""
    tokens_per_prompt: float | None
    tokens_per_accepted: float | None
    """None where no prompt was accepted."""
    saved_per_request: float | None
    """Tokens that System 2 generates for an answer and the distilled model does not; negative where it costs more."""
    break_even_requests: int | None
    """Requests answered by the distilled model instead of System 2 that pay for `generated_tokens`; None if never."""
    break_even_with_training: int | None
    """The same for the time of generating, curating and training, a token costing what it did in generating."""


def step_tokens(folder: Path) -> dict[str, Tokens]:
    """Tokens of each step over a folder of rows of schema `CANDIDATES` or `DECISIONS`, reading only the counts."""
    total: dict[str, Tokens] = {}
    for path in part_files(folder):
        file = parquet_file(path)
        # The name between the levels of a nested column depends on who wrote the file.
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        wanted = [leaf for leaf in leaves if leaf.rpartition(".")[2] in CALL_COUNTS]
        if len(wanted) != len(CALL_COUNTS):
            continue
        for batch in file.iter_batches(columns=wanted):
            for name, found in _by_step(_calls(batch.column(0))).items():
                total[name] = total.get(name, Tokens(0, 0, 0, 0)) + found
    return total


def _calls(column: pa.Array) -> pa.StructArray:
    """The model calls in a column, out of whatever they are nested in."""
    while not (pa.types.is_struct(column.type) and column.type.get_field_index("prompt_tokens") >= 0):
        column = pc.struct_field(column, 0) if pa.types.is_struct(column.type) else pc.list_flatten(column)
    return column


def _by_step(calls: pa.StructArray) -> dict[str, Tokens]:
    table = pa.table({field: pc.struct_field(calls, field) for field in CALL_COUNTS})
    sums = table.group_by("name").aggregate([("name", "count"), *((field, "sum") for field in CALL_COUNTS[1:])])
    return {
        row["name"]: Tokens(
            row["name_count"], row["prompt_tokens_sum"], row["cached_tokens_sum"], row["completion_tokens_sum"]
        )
        for row in sums.to_pylist()
    }


def balance(
    steps: Mapping[str, Tokens],
    work: Mapping[str, TimeSpent],
    prompts: int,
    accepted: int,
    teacher: float | None,
    student: float | None,
) -> Ledger:
    """The ledger of one distillation, from its sums and from both arms' generated tokens per answer."""
    generated = sum(tokens.generated for tokens in steps.values())
    saved = None if teacher is None or student is None else teacher - student
    tokens_worth = _in_tokens(work, generated)
    pays = saved is not None and saved > 0
    return Ledger(
        steps=steps,
        work=work,
        accepted=accepted,
        generated_tokens=generated,
        tokens_per_prompt=generated / prompts if prompts else None,
        tokens_per_accepted=generated / accepted if accepted else None,
        saved_per_request=saved,
        break_even_requests=ceil(generated / saved) if saved and pays else None,
        break_even_with_training=ceil(tokens_worth / saved) if saved and pays and tokens_worth else None,
    )


def _in_tokens(work: Mapping[str, TimeSpent], generated: int) -> float | None:
    """All the time that was spent, in tokens that generating made in as much time; GPU time where there were GPUs."""
    on_gpus = any(spent.gpu_seconds for spent in work.values())
    seconds = {stage: spent.gpu_seconds if on_gpus else spent.seconds for stage, spent in work.items()}
    return generated * sum(seconds.values()) / seconds["generate"] if seconds.get("generate") else None


def ledger_table(ledger: Ledger, where: str = "") -> Table:
    """The ledger as a person reads it in a terminal; `where` names the part and the round."""
    table = Table(f"ledger ({where})" if where else "ledger", box=None, pad_edge=False)
    for column in ("calls", "read", "cached", "generated", "per accepted example"):
        table.add_column(column, justify="right")
    for step, tokens in ledger.steps.items():
        counts = (tokens.calls, tokens.prompt, tokens.cached, tokens.generated)
        share = f"{tokens.generated / ledger.accepted:,.1f}" if ledger.accepted else "none accepted"
        table.add_row(f"tokens of {step}", *(f"{count:,}" for count in counts), share)
    for stage, spent in ledger.work.items():
        table.add_row(stage, f"{spent.seconds:,.0f} s", f"{spent.gpu_seconds:,.0f} GPU-s")
    table.add_row("paid for after", _requests(ledger.break_even_requests), "by tokens")
    table.add_row("", _requests(ledger.break_even_with_training), "by time")
    return table


def _requests(number: int | None) -> str:
    return "never" if number is None else f"{number:,}"
