"""A few held-out prompts with what every arm answered, drawn by a hash of the prompt so that nobody picks them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from s2d_ray.arms import in_order, repeats_another
from s2d_ray.data.records import Row, candidates_from_row, content_id
from s2d_ray.evaluation.metrics import Answer, PromptKey, answer_of, marks
from s2d_ray.report.sections import ArmAnswer, Example, ExampleMessage, StepText
from s2d_ray.tasks.task import Task


def choose(answers: Iterable[Answer], count: int) -> list[PromptKey]:
    """Up to `count` prompts, taken from each subset in turn; the same for the same evaluation set."""
    by_subset: dict[str, list[PromptKey]] = {}
    for key in dict.fromkeys(a.key for a in answers):
        by_subset.setdefault(key[0], []).append(key)
    drawn = (sorted(keys, key=lambda key: content_id("example", *key)) for _, keys in sorted(by_subset.items()))
    return [key for key in chain.from_iterable(zip_longest(*drawn)) if key is not None][:count]


def examples(rows: Iterable[Row], answers: Sequence[Answer], chosen: Sequence[PromptKey], task: Task) -> list[Example]:
    """The chosen prompts in their order, from rows of schema `ANSWERS`."""
    right = correctness(answers, task)
    found: dict[PromptKey, dict[str, Row]] = {key: {} for key in chosen}
    for row in rows:
        key = (row["subset"], row["prompt_id"])
        if key in found and not repeats_another(row["arm"]):
            found[key][row["arm"]] = row
    answered = {
        key: {arm: _arm_answer(by_arm[arm], right.get((arm, key)), task) for arm in in_order(by_arm)}
        for key, by_arm in found.items()
    }
    return [_example(next(iter(found[key].values())), answered[key]) for key in found]


def correctness(answers: Sequence[Answer], task: Task) -> dict[tuple[str, PromptKey], bool]:
    """Whether each arm was right on each prompt that is scored in the subset it belongs to."""
    teacher = {a.key: a.answer for a in answers if a.arm == "teacher"}
    parts: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        parts.setdefault((answer.arm, answer.subset), []).append(answer)
    return {(arm, key): ok for (arm, _), part in parts.items() for key, ok in marks(part, task, teacher)[1].items()}


def _example(row: Row, answers: Mapping[str, ArmAnswer]) -> Example:
    return Example(
        prompt_id=row["prompt_id"],
        messages=tuple(ExampleMessage(role=m["role"], content=m["content"]) for m in row["messages"]),
        references=tuple(row["references"]),
        subset=row["subset"],
        group=row["group"],
        answers=answers,
    )


def _arm_answer(row: Row, correct: bool | None, task: Task) -> ArmAnswer:
    candidates, found = candidates_from_row(row), answer_of(row, task)
    own = [sample for sample in candidates.samples if not sample.variant]
    shown = own[[vote.answer for vote in found.votes].index(found.answer)] if own else None
    steps = shown.steps if shown else ()
    return ArmAnswer(
        text=shown.text if shown else "",
        answer=found.answer,
        correct=correct,
        tokens=found.tokens,
        variants=found.variants,
        error=candidates.error or (shown.error if shown else ""),
        steps=tuple(StepText(name=s.name, text=s.text, thought=s.thought) for s in steps if len(steps) > 1),
        thought=steps[0].thought if len(steps) == 1 else "",
    )
