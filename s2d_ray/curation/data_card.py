"""The data card of a distilled set: where it came from, what was kept, and why the rest was not.

It is also what tells `datasets` which files to load: the kept pairs by default, the rest by name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from s2d_ray.data.artifacts import installed_versions
from s2d_ray.data.files import write_text
from s2d_ray.data.records import Row, kind_of
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named

STATUSES = ("kept", "rejected", "failed")
NAMED_REASONS = 3
"""Reasons that one sentence names; the rest are added up."""


def count_outcomes(rows: Iterable[Row]) -> dict[str, Any]:
    """Counts by status and reason, and a histogram of vote shares by status, of rows of schema `DECISIONS`."""
    reasons: dict[str, Counter[str]] = {status: Counter() for status in STATUSES}
    shares: dict[str, Counter[str]] = {"kept": Counter(), "rejected": Counter()}
    for row in rows:
        reasons[row["status"]][row["reason"]] += 1
        if row["vote_share"] is not None:
            shares[row["status"]][f"{row['vote_share']:.2f}"] += 1
    return {
        "rows": sum(counts.total() for counts in reasons.values()),
        "kept": reasons["kept"].total(),
        "rejected": dict(reasons["rejected"].most_common()),
        "failed": dict(reasons["failed"].most_common()),
        "vote_shares": {status: dict(sorted(counts.items())) for status, counts in shares.items()},
    }


def why_nothing_kept(counts: Mapping[str, Any]) -> str:
    """A sentence on a distilled set that is empty: how many prompts were left out, and for which reasons."""
    failed: Counter[str] = Counter()
    for error, n in counts["failed"].items():
        failed[kind_of(error)] += n
    parts = [_left_out(*part) for part in (("rejected", counts["rejected"]), ("failed", failed)) if part[1]]
    return f"Curation kept none of {counts['rows']} prompts, so there is nothing to train on: {' and '.join(parts)}."


def _left_out(status: str, reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{reason} {n}" for reason, n in ordered[:NAMED_REASONS]]
    rest = sum(n for _, n in ordered[NAMED_REASONS:])
    return f"{sum(reasons.values())} {status} ({', '.join([*named, *([f'other reasons {rest}'] if rest else [])])})"


def write_data_card(
    folder: Path,
    recipe: Recipe,
    rules: Sequence[Named],
    counts: Mapping[str, Any],
    inputs: Mapping[str, Any],
    source: str,
) -> None:
    """README.md of a distilled folder. `rules` are those applied; `inputs` is what the candidates were made from."""
    present: Sequence[str] = [status for status in STATUSES if list(folder.glob(f"status={status}/*.parquet"))]
    configs = [
        {"config_name": status, "data_files": f"status={status}/*.parquet", "default": status == "kept"}
        for status in present
    ]
    front = {"configs": configs, "license": "other", "tags": ["system-2-distillation"]}
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    write_text(
        folder / "README.md",
        environment.from_string(TEMPLATE).render(
            front=yaml.safe_dump(front, sort_keys=False),
            recipe=recipe,
            counts=counts,
            inputs=inputs,
            source=source,
            rules=[rule.model_dump(mode="json") for rule in rules],
            versions=installed_versions(),
        ),
    )


def _cell(text: str) -> str:
    """Text as one cell of a Markdown table: a reason may be any error's message."""
    return " ".join(text.split()).replace("|", "\\|")


TEMPLATE = """---
{{ front }}---
# Distilled from {{ recipe.name }}

Each row of the default configuration is a plain prompt and the answer that System 2 agreed on, in the
`messages` form. No intermediate generation and no label is in it; targets were chosen without labels.

| outcome | prompts |
|---|---|
| kept | {{ counts.kept }} |
{% for reason, n in counts.rejected.items() %}
| rejected: {{ reason | cell }} | {{ n }} |
{% endfor %}
{% for reason, n in counts.failed.items() %}
| failed: {{ reason | cell }} | {{ n }} |
{% endfor %}
| all | {{ counts.rows }} |

## Vote shares

| share of the samples | kept | rejected |
|---|---|---|
{% for share in (counts.vote_shares.kept.keys() | list + counts.vote_shares.rejected.keys() | list) | unique | sort %}
| {{ share }} | {{ counts.vote_shares.kept.get(share, 0) }} | {{ counts.vote_shares.rejected.get(share, 0) }} |
{% endfor %}

## How it was made

- Model: {{ inputs.model.name }} (identity {{ inputs.model.identity }})
- Method: {{ inputs.method }}
- Samples a prompt: {{ inputs.samples }}; sampling: {{ inputs.sampling }}
- Curation rules: {{ rules }}
- Seed: {{ recipe.seed }}
- Prompts: {{ source }}
- Versions: {{ versions }}
"""
