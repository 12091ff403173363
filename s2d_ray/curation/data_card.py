"""The data card of a distilled set: where it came from, what was kept, and why the rest was not.

It is also what tells `datasets` which files to load: the kept pairs by default, the rest by name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from s2d_ray.curation.rule import Rule
from s2d_ray.data.files import write_text
from s2d_ray.data.manifests import Outcomes, VoteShares, installed_versions, largest
from s2d_ray.data.records import Row
from s2d_ray.recipes.recipe import Recipe

STATUSES = ("kept", "rejected", "failed")
NAMED_REASONS = 3
"""Reasons that one sentence names; the rest are added up."""


def count_outcomes(rows: Iterable[Row]) -> Outcomes:
    """Counts of rows of schema `DECISIONS`, of which only status, reason and vote_share are read."""
    reasons: dict[str, Counter[str]] = {status: Counter() for status in STATUSES}
    shares: dict[str, Counter[str]] = {"kept": Counter(), "rejected": Counter()}
    for row in rows:
        reasons[row["status"]][row["reason"]] += 1
        if row["vote_share"] is not None:
            shares[row["status"]][f"{row['vote_share']:.2f}"] += 1
    return Outcomes(
        rows=sum(counts.total() for counts in reasons.values()),
        kept=reasons["kept"].total(),
        rejected=dict(reasons["rejected"]),
        failed=dict(reasons["failed"]),
        vote_shares=VoteShares(**{status: dict(sorted(counts.items())) for status, counts in shares.items()}),
    )


def why_nothing_kept(outcomes: Outcomes) -> str:
    """A sentence on a distilled set that is empty: how many prompts were left out, and for which reasons."""
    left_out = (("rejected", outcomes.rejected), ("failed", outcomes.failed))
    parts = [_left_out(status, reasons) for status, reasons in left_out if reasons]
    return f"Curation kept none of {outcomes.rows} prompts, so there is nothing to train on: {' and '.join(parts)}."


def _left_out(status: str, reasons: Mapping[str, int]) -> str:
    named = (f"{reason} {n}" for reason, n in largest(reasons, NAMED_REASONS).items())
    return f"{sum(reasons.values())} {status} ({', '.join(named)})"


def write_data_card(
    folder: Path,
    recipe: Recipe,
    rules: Sequence[Rule],
    outcomes: Outcomes,
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
            outcomes=outcomes,
            inputs=inputs,
            source=source,
            trained=next((rule.trains for rule in rules if rule.trains), ""),
            rules=[{"name": rule.name, **rule.model_dump(mode="json")} for rule in rules],
            versions=installed_versions(),
        ),
    )


def _cell(text: str) -> str:
    """Text as one cell of a Markdown table: a rule may give any reason."""
    return " ".join(text.split()).replace("|", "\\|")


TEMPLATE = """---
{{ front }}---
# Distilled from {{ recipe.name }}

{% if trained %}
Each row of the default configuration is a plain prompt and {{ trained }}, in the `messages` form; `target` is the
answer alone. No label is in it; targets were chosen without labels.
{% else %}
Each row of the default configuration is a plain prompt and the answer that System 2 agreed on, in the
`messages` form. No intermediate generation and no label is in it; targets were chosen without labels.
{% endif %}

| outcome | prompts |
|---|---|
| kept | {{ outcomes.kept }} |
{% for reason, n in outcomes.rejected.items() %}
| rejected: {{ reason | cell }} | {{ n }} |
{% endfor %}
{% for reason, n in outcomes.failed.items() %}
| failed: {{ reason | cell }} | {{ n }} |
{% endfor %}
| all | {{ outcomes.rows }} |

## Vote shares

| share of the samples | kept | rejected |
|---|---|---|
{% set shares = outcomes.vote_shares %}
{% for share in (shares.kept.keys() | list + shares.rejected.keys() | list) | unique | sort %}
| {{ share }} | {{ shares.kept.get(share, 0) }} | {{ shares.rejected.get(share, 0) }} |
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
