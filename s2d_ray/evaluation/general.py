"""What was lost: the model before and after, on replies and prompts that have nothing to do with what was trained.

Of replies that people wrote, how likely the model finds them; of prompts, whether it answers and how long.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from s2d_ray.data.records import PROMPTS, Row
from s2d_ray.evaluation.statistics import CONFIDENCE, Interval, Paired, paired
from s2d_ray.recipes.general import General as Limits

ITEMS = pa.schema([PROMPTS.field("prompt_id"), PROMPTS.field("messages"), ("reply", pa.string())])
MEASURED = pa.schema(
    [
        *ITEMS,
        ("arm", pa.string()),
        ("text", pa.string()),
        # Of the reply where there is one, else of what the model answered.
        ("tokens", pa.int32()),
        ("log_likelihood", pa.float64()),
        ("cut", pa.bool_()),
        ("error", pa.string()),
    ]
)
BEFORE, AFTER = "base", "student"
_OPENING = 160
"""Characters in which a refusal says so."""
_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:very |so |really )?(?:sorry|afraid|unable|not able|not allowed)\b"
    r"|\bi (?:can(?:'t|not)|could(?:n't| not)|won't|will not|do(?:n't| not) feel comfortable)\b"
    r"|\b(?:i|my|sincere) apolog(?:ise|ize|ies)\b"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi do(?:n't| not) (?:know|have)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class General:
    """The distilled model against the one that it was made from, on the general set: after minus before."""

    replies: int
    """Human-written replies that both models were asked about."""
    log_likelihood_before: float | None
    """Mean over the replies of the log-likelihood per token, in nats; None without replies, as those below."""
    log_likelihood_after: float | None
    log_likelihood: Interval | None
    """Of the difference on the same replies."""
    perplexity_ratio: float | None
    """After over before: how many times as many tokens seem possible at each place."""
    prompts: int
    """Prompts that both models answered."""
    refused_before: float | None
    """Share of the prompts that are refused or get no word; None without prompts, as those below."""
    refused_after: float | None
    refused: Paired | None
    """After and before on the same prompts."""
    tokens_before: float | None
    """Mean of the generated tokens."""
    tokens_after: float | None
    length: Interval | None
    """Geometric mean over the prompts of tokens after over tokens before."""
    cut_before: float | None
    """Share of the answers that ran into the token limit: where it is large, a model that got longer cannot be seen."""
    cut_after: float | None
    max_tokens: int
    """The token limit."""
    known: int
    """Of all these, items whose prompt stands in the run's own corpus, though not with this reply."""


def measure(rows: Sequence[Row], max_tokens: int, known: int) -> General | None:
    """From rows of schema `MEASURED`; None where no item was measured on both models."""
    by_arm: dict[str, dict[str, Row]] = {BEFORE: {}, AFTER: {}}
    for row in rows:
        if not row["error"] and row["tokens"] is not None:
            by_arm[row["arm"]][row["prompt_id"]] = row
    both = [(by_arm[BEFORE][key], row) for key, row in by_arm[AFTER].items() if key in by_arm[BEFORE]]
    replies = [pair for pair in both if pair[0]["reply"]]
    prompts = [pair for pair in both if not pair[0]["reply"]]
    if not both:
        return None
    return General(**_likelihood(replies), **_answers(prompts), max_tokens=max_tokens, known=known)


def _likelihood(pairs: Sequence[tuple[Row, Row]]) -> Mapping[str, Any]:
    before, after = ([row["log_likelihood"] / row["tokens"] for row in side] for side in _sides(pairs))
    difference = _mean([b - a for a, b in zip(before, after, strict=True)])
    return {
        "replies": len(pairs),
        "log_likelihood_before": _plain_mean(before),
        "log_likelihood_after": _plain_mean(after),
        "log_likelihood": difference,
        "perplexity_ratio": exp(-difference.value) if difference else None,
    }


def _answers(pairs: Sequence[tuple[Row, Row]]) -> Mapping[str, Any]:
    sides = _sides(pairs)
    refused = [[refuses(row["text"]) for row in side] for side in sides]
    tokens = [[max(1, row["tokens"]) for row in side] for side in sides]
    cut = [[row["cut"] for row in side] for side in sides]
    ratio = _mean([log(b) - log(a) for a, b in zip(*tokens, strict=True)])
    return {
        "prompts": len(pairs),
        "refused_before": _plain_mean(refused[0]),
        "refused_after": _plain_mean(refused[1]),
        "refused": paired(refused[1], refused[0]) if pairs else None,
        "tokens_before": _plain_mean(tokens[0]),
        "tokens_after": _plain_mean(tokens[1]),
        "length": Interval(exp(ratio.value), exp(ratio.low), exp(ratio.high), ratio.n) if ratio else None,
        "cut_before": _plain_mean(cut[0]),
        "cut_after": _plain_mean(cut[1]),
    }


def _sides(pairs: Sequence[tuple[Row, Row]]) -> tuple[list[Row], list[Row]]:
    return [before for before, _ in pairs], [after for _, after in pairs]


def _plain_mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean(values: Sequence[float]) -> Interval | None:
    """A mean of numbers that may be negative, with its t interval; of fewer than two the interval is without bounds."""
    if not values:
        return None
    n, centre = len(values), float(np.mean(values))
    # JSON has no infinity: a reach beyond anything that a log-probability or a logarithm of tokens can differ by.
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else 100.0
    return Interval(centre, centre - reach, centre + reach, n)


def refuses(text: str) -> bool:
    """Whether an answer declines to answer, in English, or has no word."""
    opening = text.strip()[:_OPENING].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return not re.search(r"\w", opening) or _REFUSAL.search(opening) is not None


def lost(general: General | None, limits: Limits | None) -> tuple[str, ...]:
    """What the distilled model lost by more than the recipe allows, beyond chance: by its whole interval.

    A clause each, which says what it does.
    """
    if general is None or limits is None:
        return ()
    found = []
    fall, refused, length = general.log_likelihood, general.refused, general.length
    if fall and fall.high < -limits.max_fall:
        found.append(
            f"finds {general.replies} replies that people wrote less likely than before, by {-fall.value:.2f} nats per "
            f"token ({-fall.high:.2f} to {-fall.low:.2f})"
        )
    if refused and refused.low > limits.max_refusals:
        found.append(
            f"refuses {_percent(general.refused_after)} of {general.prompts} unrelated prompts or says nothing "
            f"(before: {_percent(general.refused_before)})"
        )
    if length and (length.high < 1 / limits.max_length or length.low > limits.max_length):
        found.append(
            f"answers {general.prompts} unrelated prompts {length.value:.2g} times as long as before ({length.low:.2g} "
            f"to {length.high:.2g}; {general.tokens_after:.1f} tokens, before {general.tokens_before:.1f} of at most "
            f"{general.max_tokens})"
        )
    return tuple(found)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.0f}%"
