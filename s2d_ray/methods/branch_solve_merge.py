"""Branch-Solve-Merge (Saha et al., arXiv 2310.15123) as a judge of two responses to one question.

Branch plans up to five criteria from the question alone; Solve scores both responses on each; Merge makes
the scores one verdict: `A`, `B` or `tie`. The wording of both prompt sets is ours.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from s2d_ray.data.records import Message, Prompt, user
from s2d_ray.errors import UserError
from s2d_ray.methods.judgements import SWAP, parse_criteria, parse_verdict, verdict_of_scores
from s2d_ray.methods.method import GenerateFunction, MethodOptions, PlainExamples
from s2d_ray.methods.turns import before
from s2d_ray.tasks.judge import INSTRUCTION

Case = Mapping[str, str]
"""What a wording refers to: question, response_a and response_b, then criterion or evaluations."""


class BranchSolveMergeOptions(MethodOptions):
    """What a recipe may set for this method."""

    merge: Literal["sum", "model"] = "sum"
    """The verdict: by the sum of the scores, or by the model, which is shown all evaluations."""
    both_orders: bool = False
    """Judge with A and B swapped too: a winner only if both orders agree, else a tie. Twice the calls."""


@dataclass(frozen=True)
class Call:
    """The wording of one call, and worked (case, reply) pairs for models that need them."""

    wording: str
    examples: tuple[tuple[Case, str], ...] = ()

    def chat(self, prompt: Prompt, case: Case) -> list[Message]:
        """The examples as turns, then the case, each in its place in what the prompt says before its last turn."""
        shown = [(self.wording.format(**example), reply) for example, reply in self.examples]
        return [*before(prompt, shown), user(self.wording.format(**case))]


@dataclass(frozen=True)
class BranchSolveMergePrompts:
    """The three calls."""

    branch: Call
    solve: Call
    merge: Call
    verdicts: tuple[tuple[Case, str], ...] = ()
    """The worked cases, and the verdict of each."""

    @property
    def plain_examples(self) -> PlainExamples:
        """The cases as the task of judging asks about them, with the verdict."""
        return [(INSTRUCTION.format(**case), verdict) for case, verdict in self.verdicts]


async def branch_solve_merge(
    prompt: Prompt,
    generate: GenerateFunction,
    prompts: BranchSolveMergePrompts,
    merge: Literal["sum", "model"],
    both_orders: bool,
) -> str:
    """The verdict on the prompt's fields question, response_a and response_b."""
    case = _case(prompt)
    [plan] = await generate(prompts.branch.chat(prompt, case), step="branch")
    criteria = parse_criteria(plan.text)

    orders = {"": case, " swapped": _swapped(case)} if both_orders else {"": case}
    # A phase's calls are all waited for before one text is read: a malformed one must leave no call behind.
    solving = [
        generate(prompts.solve.chat(prompt, {**order, "criterion": criterion}), step=f"solve {number}{name}")
        for name, order in orders.items()
        for number, criterion in enumerate(criteria, start=1)
    ]
    texts = [evaluation.text for [evaluation] in await asyncio.gather(*solving)]
    evaluations = [texts[start : start + len(criteria)] for start in range(0, len(texts), len(criteria))]

    if merge == "sum":
        verdicts = [verdict_of_scores(part) for part in evaluations]
    else:
        merging = [
            generate(prompts.merge.chat(prompt, {**order, "evaluations": "\n\n".join(part)}), step=f"merge{name}")
            for (name, order), part in zip(orders.items(), evaluations, strict=True)
        ]
        verdicts = [parse_verdict(merged.text) for [merged] in await asyncio.gather(*merging)]
    first, *second = verdicts
    return first if all(SWAP[verdict] == first for verdict in second) else "tie"


def _case(prompt: Prompt) -> Case:
    parts = ("question", "response_a", "response_b")
    if missing := [part for part in parts if part not in prompt.fields]:
        raise UserError(f"method bsm judges pairs of responses: the task gives no {' and no '.join(missing)}")
    return {part: prompt.fields[part] for part in parts}


def _swapped(case: Case) -> Case:
    return {**case, "response_a": case["response_b"], "response_b": case["response_a"]}


_PAIR = "Question: {question}\n\nResponse A:\n{response_a}\n\nResponse B:\n{response_b}\n\n"
_TEA = {
    "question": "How do I make black tea?",
    "response_a": "Boil water, pour it over a tea bag, wait four minutes, and take the bag out.",
    "response_b": "Tea is a drink from Asia. Many people like it.",
}
_SUM = {
    "question": "What is 17 + 5?",
    "response_a": "17 + 5 = 21.",
    "response_b": "17 + 5 = 22.",
}

PROMPT_SETS = {
    "zero_shot": BranchSolveMergePrompts(
        branch=Call(
            "Two responses to the question below are going to be judged. Plan how: list up to five criteria that "
            "matter most for a good response to this question. Write one criterion a line, numbered, as its name, "
            "a colon and a short description. Do not answer the question.\n\nQuestion: {question}"
        ),
        solve=Call(
            "Judge two responses to a question by one criterion only.\n\n" + _PAIR + "Criterion: {criterion}\n\n"
            "On the first line write only the score of response A, on the second line only the score of response B, "
            "each a whole number from 1 (poor) to 5 (excellent). Then explain the scores. "
            "Neither the order nor the length of the responses may count."
        ),
        merge=Call(
            "Judge which of two responses to a question is better overall, given evaluations of both by several "
            "criteria.\n\n" + _PAIR + "Evaluations (score of A, score of B, reasons):\n\n{evaluations}\n\n"
            "End with your verdict: [[A]], [[B]] or [[tie]]."
        ),
    ),
    "few_shot": BranchSolveMergePrompts(
        branch=Call(
            "List criteria for a good response to the question, one a line.\n\nQuestion: {question}",
            (
                (_TEA, "1. Correctness: the steps lead to a good tea\n2. Completeness: no step is missing"),
                (_SUM, "1. Correctness: the result is right\n2. Clarity: the result is easy to find"),
            ),
        ),
        solve=Call(
            _PAIR + "Criterion: {criterion}\n\nScore A and B from 1 to 5.",
            (
                ({**_TEA, "criterion": "Completeness: no step is missing"}, "A: 5\nB: 1\nOnly A names the steps."),
                ({**_SUM, "criterion": "Correctness: the result is right"}, "A: 1\nB: 5\n17 + 5 is 22, as B says."),
            ),
        ),
        merge=Call(_PAIR + "Evaluations:\n\n{evaluations}\n\nWhich response is better, [[A]], [[B]] or [[tie]]?"),
        verdicts=((_TEA, "A"), (_SUM, "B")),
    ),
}
