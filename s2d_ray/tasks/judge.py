"""Pairwise judging: which of two responses is better, as people found?

    Question: How can I find the best 401k plan for my needs?
    Response A: The first step is to research your options. …
    Response B: The best way to find a 401k plan that meets your needs is to … compare different options. …   →   A

Pairs come from OpenAssistant's ranked first turns, MT-Bench's human judgments, LLMBar, or your own file (the
layouts are in `s2d_ray/tasks/response_pairs.py`). Swapping the responses must swap the verdict.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from s2d_ray.answers.normalisation import caseless
from s2d_ray.answers.verdicts import closed_verdict, read_verdict
from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.methods.judgements import SWAP
from s2d_ray.tasks.deduplication import alike
from s2d_ray.tasks.reading import load_rows, placed_rows
from s2d_ray.tasks.refusals import Placed
from s2d_ray.tasks.response_pairs import ResponsePair, few_per_question, pairs_of
from s2d_ray.tasks.rows import RowTask, left_out, shipped_file
from s2d_ray.tasks.task import Split, Variant

INSTRUCTION = (
    "Which of two responses to a question is better? Answer A, B or tie only.\n\n"
    "Question: {question}\n\nResponse A:\n{response_a}\n\nResponse B:\n{response_b}\n\nVerdict:"
)
FIELDS = ("question", "response_a", "response_b")


class Judge(RowTask):
    """A verdict on two responses: A, B or tie."""

    shipped: ClassVar[str] = "oasst-trees.jsonl"
    shipped_source: ClassVar[str] = (
        "OpenAssistant sample trees (Apache-2.0); MT-Bench questions (lm-sys/FastChat, Apache-2.0) with pairs of "
        "princeton-nlp/LLMBar (MIT); excerpts"
    )

    mt_bench_path: str | None = None
    """Pairs tested on as a subset of their own: lmsys/mt_bench_human_judgments, or LLMBar's Processed/MT-Bench."""
    mt_bench_split: str = "human"
    """On the hub: the split of `mt_bench_path`."""
    pairs_per_question: int = Field(3, ge=1)
    """Pairs at most of one question, MT-Bench's excepted; n ranked responses make n(n-1)/2."""
    max_characters: int = Field(8000, ge=1)
    """Pairs whose question and responses together are longer are left out."""
    perturbations: tuple[Literal["swap"], ...] = ("swap",)
    """`swap` also asks with the responses exchanged: the verdict must be exchanged too."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("A", "B", "tie")

    @property
    def metric(self) -> str:
        return "agreement with people"

    def labelled(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """Pairs of the split; MT-Bench only in the test split, and nothing that asks as it does in another."""
        mt_bench = list(self._mt_bench())
        apart = {caseless(pair.question) for pair in mt_bench} if split != "test" else set[str]()
        apart_too = {alike(question) for question in apart}
        for pair in self.records(split, seed, self._read, lambda pair: pair.question):
            if alike(pair.question) in apart_too:
                left_out(split, alike=caseless(pair.question) not in apart)
            else:
                yield _labelled(pair, "pairs", "")
        if split == "test":
            for pair in mt_bench:
                yield _labelled(pair, "mt_bench", _categories().get(pair.question.strip(), ""))

    def ask(self, text: str) -> Prompt:
        """The prompt of a JSON object with the texts question, response_a and response_b."""
        try:
            given = json.loads(text)
        except json.JSONDecodeError:
            given = None
        if not isinstance(given, dict) or any(not isinstance(given.get(name), str) for name in FIELDS):
            raise UserError(
                'task judge compares two responses: type {"question": "…", "response_a": "…", "response_b": "…"}'
            )
        return _ask(ResponsePair(given["question"], given["response_a"], given["response_b"], ""))

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The verdict that the text marks, or states: A, B or tie."""
        return read_verdict(text)

    def parse_cut(self, text: str, prompt: Prompt) -> str | None:
        return closed_verdict(text)

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        """The responses exchanged, where asked for."""
        f = prompt.fields
        swapped = _ask(ResponsePair(f["question"], f["response_b"], f["response_a"], ""))
        return [Variant(name, swapped, SWAP.__getitem__) for name in self.perturbations]

    def _mt_bench(self) -> Iterator[ResponsePair]:
        path = self.mt_bench_path or (None if self.path else shipped_file("mt_bench-pairs.jsonl"))
        return iter(()) if path is None else self._fitting(placed_rows(path, split=self.mt_bench_split))

    def _read(self, rows: Iterable[Placed]) -> Sequence[ResponsePair]:
        return few_per_question(self._fitting(rows), self.pairs_per_question)

    def _fitting(self, rows: Iterable[Placed]) -> Iterator[ResponsePair]:
        return (pair for pair in pairs_of(rows) if sum(map(len, pair[:3])) <= self.max_characters)


def _labelled(pair: ResponsePair, subset: str, group: str) -> LabelledPrompt:
    references = [pair.verdict] if pair.verdict else []
    return LabelledPrompt(_ask(pair), references, subset, group, caseless(pair.question))


def _ask(pair: ResponsePair) -> Prompt:
    fields = {"question": pair.question, "response_a": pair.response_a, "response_b": pair.response_b}
    text = INSTRUCTION.format(**fields)
    return Prompt(content_id(text), [user(text)], fields)


@lru_cache
def _categories() -> dict[str, str]:
    """MT-Bench question → its category."""
    rows = load_rows(shipped_file("mt_bench-questions.jsonl"))
    return {row["turns"][0].strip(): row["category"] for row in rows}
