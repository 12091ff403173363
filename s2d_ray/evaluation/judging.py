"""Which of two arms' answers a judge prefers, where nothing says what is right: from its verdicts in both orders.

A preference is what both orders agree on. A verdict that changes with the order is a tie, and counts against the judge.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from s2d_ray.arms import repeats_another
from s2d_ray.curation.rule import parse_samples
from s2d_ray.curation.votes import majority_vote
from s2d_ray.data.records import LABELLED, PROMPTS, Row, candidates_from_row
from s2d_ray.evaluation.metrics import ALL, ArmScores, PromptKey, Score
from s2d_ray.evaluation.statistics import Interval, Paired, paired, share
from s2d_ray.tasks.task import Task

PAIRS = pa.schema(
    [
        *PROMPTS,
        LABELLED.field("subset"),
        LABELLED.field("group"),
        LABELLED.field("cluster"),
        ("first", pa.string()),
        ("second", pa.string()),
        ("first_text", pa.string()),
        ("second_text", pa.string()),
    ]
)
JUDGEMENTS = pa.schema(
    [
        *(field for field in PAIRS if field.name not in ("messages", "fields")),
        # Whether the judge was: not where the texts are the same, or an arm has none.
        ("asked", pa.bool_()),
        # A where the first is better, B where the second is, tie, or null where it gave none, in either order.
        ("verdict", pa.string()),
        ("verdict_swapped", pa.string()),
        ("error", pa.string()),
    ]
)
AGAIN = "teacher again"
"""System 2 sampled a second time: what the judge makes of two answers that are equally good by their making."""
CHANCE = 0.5
"""How often a coin would give the same verdict in both orders, at the least."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one pair."""

    key: PromptKey
    group: str
    unit: str
    """The prompt's cluster, or itself: what is independent of the others."""
    preference: int
    """1 for the first arm's answer, -1 for the second's, 0 for a tie."""
    consistent: bool | None
    """Whether the judge said the same in both orders; None where it was not asked."""


Judgements = Mapping[tuple[str, str], list[Judgement]]
"""First and second arm → each prompt's."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge made of the arms' answers. A difference is the share it prefers the first for, less the second's."""

    method: str
    """That it judges by."""
    model: str
    """That it is."""
    consistency: Interval | None
    """Of the judge: share of the pairs on which both orders agree; None where it was never asked."""
    failed: int
    """Pairs with an order in which it gave no verdict: ties, and not consistent."""
    comparisons: Mapping[str, Mapping[str, Paired]]
    """`<first>_vs_<second>` → subset, and `all` → wins and losses; the other prompts are ties."""
    ceiling: Interval
    """Share of the prompts on which System 2, sampled again, is preferred to itself or ties: as good as can be."""
    as_good: Mapping[str, Interval]
    """Arm → share of the prompts on which it is preferred to System 2 or ties."""


def final_text(row: Row, task: Task) -> str:
    """Of a row of schema `ANSWERS`: the text of the first sample that gave its most frequent answer; may be empty."""
    own = parse_samples(candidates_from_row(row), task).of("")
    vote = majority_vote(own.answers, task.key, tie="first")
    return own.samples[vote.position].text if vote else ""


def pairs(rows: Iterable[Row], again: Mapping[PromptKey, str], task: Task) -> list[Row]:
    """Rows of schema `PAIRS` of the arms' answers in `rows`: each arm with System 2, the student with the base.

    `again` has System 2's second answers, by prompt.
    """
    texts: dict[PromptKey, dict[str, str]] = {}
    prompts: dict[PromptKey, Row] = {}
    for row in rows:
        key = row["subset"], row["prompt_id"]
        prompts[key] = {name: row[name] for name in (*PROMPTS.names, "subset", "group", "cluster")}
        texts.setdefault(key, {})[row["arm"]] = final_text(row, task)
    found = []
    for key, by_arm in texts.items():
        # Of several trainings the first alone is judged.
        first_ones = {arm: text for arm, text in by_arm.items() if not repeats_another(arm)}
        said = first_ones | {AGAIN: again.get(key, "")}
        wanted = [(arm, "teacher") for arm in said if arm != "teacher"] + [("student", "base")]
        for first, second in wanted:
            if first in said and second in said:
                texts_of = {"first_text": said[first], "second_text": said[second]}
                found.append(prompts[key] | {"first": first, "second": second} | texts_of)
    return found


def judgements(rows: Iterable[Row]) -> Judgements:
    """From rows of schema `JUDGEMENTS`."""
    found: dict[tuple[str, str], list[Judgement]] = {}
    for row in rows:
        one, other = row["verdict"], row["verdict_swapped"]
        agreed = one == other and one is not None
        judgement = Judgement(
            (row["subset"], row["prompt_id"]),
            row["group"],
            row["cluster"] or row["prompt_id"],
            {"A": 1, "B": -1}.get(one, 0) if agreed else 0,
            agreed if row["asked"] else None,
        )
        found.setdefault((row["first"], row["second"]), []).append(judgement)
    return found


def judged(rows: Sequence[Row], method: str, model: str) -> Judged:
    """What comes of rows of schema `JUDGEMENTS`."""
    found = judgements(rows)
    asked = [j for each in found.values() for j in each if j.consistent is not None]
    return Judged(
        method=method,
        model=model,
        consistency=share([bool(j.consistent) for j in asked], [j.unit for j in asked]) if asked else None,
        failed=sum(None in (row["verdict"], row["verdict_swapped"]) for row in rows),
        comparisons=compare_judged(found),
        ceiling=_as_good(found[AGAIN, "teacher"]),
        as_good={arm: _as_good(each) for (arm, other), each in found.items() if other == "teacher" and arm != AGAIN},
    )


def of_prompts(found: Judgements, keys: Collection[PromptKey]) -> dict[tuple[str, str], list[Judgement]]:
    """Those of some prompts."""
    return {pair: [j for j in each if j.key in keys] for pair, each in found.items()}


def compare_judged(found: Judgements) -> dict[str, dict[str, Paired]]:
    """`<first>_vs_<second>` → subset, and `all` → the preference, given as a difference of accuracies is."""
    turned = {("teacher", "base"): [_turned(j) for j in found.get(("base", "teacher"), ())]}
    return {
        f"{first}_vs_{second}": {subset: preference(own) for subset, own in _by_subset(each).items()}
        for (first, second), each in {**found, **turned}.items()
        if each and first != AGAIN and (first, second) != ("base", "teacher")
    }


def between(found: Judgements, first: str, second: str) -> Paired:
    """How much more often one arm is preferred than another, whichever of them was judged as the first."""
    own = found.get((first, second))
    return preference([_turned(j) for j in found[second, first]] if own is None else own)


def preference(found: Sequence[Judgement]) -> Paired:
    """How much more often the first is preferred than the second, on the same prompts."""
    return paired([j.preference > 0 for j in found], [j.preference < 0 for j in found], [j.unit for j in found])


def rescored(arms: Mapping[str, ArmScores], found: Judgements) -> dict[str, ArmScores]:
    """The scores with another accuracy: the share of the prompts on which an arm is preferred to System 2 or ties.

    For System 2 itself it is the ceiling: itself sampled again.
    """
    own = {arm: found[AGAIN if arm == "teacher" else arm, "teacher"] for arm in arms}
    return {arm: _rescored(scores, own[arm]) for arm, scores in arms.items()}


def doubts(result: Judged) -> tuple[str, ...]:
    """What a reader should hold against the judge; empty where it is sure to be better than a coin."""
    if result.consistency is None or result.consistency.low > CHANCE:
        return ()
    said = f"{100 * result.consistency.value:.0f}% of {result.consistency.n} pairs"
    return (
        f"The judge says the same in both orders on {said} only, which a coin would do too: what it prefers, and what "
        "it calls as good, means little. Name another evaluate.judge.model or method.",
    )


def _rescored(scores: ArmScores, own: Sequence[Judgement]) -> ArmScores:
    def of(parts: Mapping[str, Score], chosen: Sequence[Judgement]) -> dict[str, Score]:
        return {subset: _score(parts[subset], each) for subset, each in _by_subset(chosen).items()}

    groups = {g: of(parts, [j for j in own if j.group == g]) for g, parts in scores.by_group.items()}
    return replace(scores, subsets=of(scores.subsets, own), by_group=groups)


def _score(score: Score, own: Sequence[Judgement]) -> Score:
    found = _as_good(own)
    better: dict[str, Any] = {"accuracy": found.value, "low": found.low, "high": found.high, "n": found.n}
    better["clusters"] = len({j.unit for j in own})
    return replace(score, **better, scored_against="judge")


def _as_good(found: Sequence[Judgement]) -> Interval:
    return share([j.preference >= 0 for j in found], [j.unit for j in found])


def _turned(judgement: Judgement) -> Judgement:
    return replace(judgement, preference=-judgement.preference)


def _by_subset(found: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    """Every subset by name, then `all`, as the tables have it."""
    subsets = sorted({j.key[0] for j in found} - {ALL})
    return {s: [j for j in found if j.key[0] == s] for s in subsets} | {ALL: list(found)}
