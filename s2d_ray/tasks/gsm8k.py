"""Grade-school maths: GSM8K (Cobbe et al., arXiv 2110.14168), or any file in its layout.

    Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did
    Natalia sell altogether in April and May?   →   72

Rows have `question`, and `answer` ending in `#### 72`. The paper finds that this task does not distil.
"""

import re
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from typing import ClassVar

from s2d_ray.answers.normalisation import caseless
from s2d_ray.answers.number_answers import answering_number
from s2d_ray.answers.numbers import value_of
from s2d_ray.data.records import LabelledPrompt, Prompt, Row, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.tasks.refusals import each, text_of, written
from s2d_ray.tasks.rows import RowTask
from s2d_ray.tasks.task import Split


class Gsm8k(RowTask):
    """Word problems with a number as the answer."""

    shipped: ClassVar[str] = "gsm8k-train.jsonl"
    shipped_test: ClassVar[str | None] = "gsm8k-test.jsonl"
    shipped_source: ClassVar[str] = "GSM8K (openai/grade-school-math), an excerpt of 400; MIT"

    instruction: str = "Answer with the final number only."
    """Added to the question for System 1; methods that think get the question without it. May be empty."""

    @property
    def metric(self) -> str:
        return "exact match"

    def labelled(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """One prompt per question."""
        for question, references in self.records(split, seed, partial(each, read=_worked), itemgetter(0)):
            yield LabelledPrompt(self.ask(question), references, "all", cluster=caseless(question))

    def ask(self, text: str) -> Prompt:
        """The prompt of a word problem: the instruction is added."""
        asked = f"{text}\n\n{self.instruction}" if self.instruction else text
        return Prompt(content_id(asked), [user(asked)], {"bare": text})

    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The number that the text gives as its answer, without currency and thousands separators."""
        behind = re.findall(r"^####[ \t]*([^\sA-Za-z]*\d.*)$", text, re.MULTILINE)
        found = answering_number(behind[-1]) if behind else None
        found = found or answering_number(text)
        return found.written if found else None

    def parse_cut(self, text: str, prompt: Prompt) -> str | None:
        """A number behind `####` counts too where its line had ended."""
        ended = text.rpartition("\n")[0]
        marked = re.search(r"^####", ended, re.MULTILINE)
        return self.parse(ended, prompt) if marked else super().parse_cut(text, prompt)

    def key(self, answer: str) -> str:
        """The number's exact value, so that 0.5, .50 and 1/2 are equal; the text itself where it is no number."""
        value = value_of(answer)
        return answer.strip() if value is None else str(value)


def _worked(row: Row) -> tuple[str, list[str]]:
    """The question, and its answer where there is one."""
    if "question" not in row:
        raise UserError(f"the maths data has no column question; it has {', '.join(row)}")
    worked = written(row.get("answer"), "answer")
    return text_of(row["question"], "question").strip(), [worked.rpartition("####")[2].strip()] if worked else []
