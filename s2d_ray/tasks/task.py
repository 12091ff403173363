"""What a task is: prompts, how to read an answer, and how to score one.

A task is also its own options: the fields of its class are the keys that a recipe may set.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from s2d_ray.answers.final import closed_mark
from s2d_ray.data.records import LabelledPrompt, Prompt, content_id, user
from s2d_ray.recipes.strict import Strict
from s2d_ray.tasks.refusals import Place, Refused, account, each

T = TypeVar("T")
Split = Literal["train", "valid", "test"]
"""Disjoint parts: System 2 works through `train`; `valid` decides whether a further round is run; `test` decides the
verdict."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A perturbed prompt whose answer must be the same once mapped back (paper section 3, rule c)."""

    name: str
    prompt: Prompt
    map_back: Callable[[str], str]
    """From an answer to the variant to the answer it means for the prompt itself."""


class Task(Strict, ABC):
    """A kind of question. Answers are the short strings that `parse` reads off a text."""

    @abstractmethod
    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        """The prompts of one split, with references where they are known; the same for the same seed.

        Only evaluation calls this for labels; `training_prompts` is what every other stage sees.
        """

    def ask(self, text: str) -> Prompt:
        """The prompt of what a person typed.

        Raises UserError where a method or `parse` needs a part of the prompt that the text does not give.
        """
        return Prompt(content_id(text), [user(text)])

    @abstractmethod
    def parse(self, text: str, prompt: Prompt) -> str | None:
        """The answer that a text gives, written as a target; None where it gives none."""

    def parse_cut(self, text: str, prompt: Prompt) -> str | None:
        """The answer that a text gives which ran into the token limit; None unless it is over by then.

        Only an answer that the text marks counts (`\\boxed{72}`, `The answer is 72.`): `parse` gets that statement
        alone. A task whose answers are marked otherwise says here how.
        """
        closed = closed_mark(text)
        return None if closed is None else self.parse(closed, prompt)

    def key(self, answer: str) -> str:
        """Equivalent answers share a key."""
        return answer

    def correct(self, answer: str | None, references: Sequence[str]) -> bool:
        """Whether an answer equals one of the references."""
        return answer is not None and self.key(answer) in {self.key(r) for r in references}

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        """The perturbations under which the answer must not change; none unless the task has some."""
        return ()

    def question(self, prompt: Prompt) -> str:
        """What is asked, in whatever form: the same for prompts that must have the same answer.

        Empty where each prompt is a question of its own.
        """
        return ""

    @property
    def inconsistency(self) -> str:
        """What the share of questions whose answer changes with how they are put is called in a report."""
        return "inconsistent"

    @property
    def decides(self) -> Sequence[str]:
        """The subsets that the method is for, on which alone the verdict is decided; none: all prompts decide."""
        return ()

    @property
    def echoed(self) -> Sequence[str]:
        """Subsets whose prompts say the right answer, so that System 1 may be right there by repeating it.

        The distilled model must not fall below System 2 there; in the other subsets, not below System 1.
        """
        return ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Every possible answer, written as a target, where there are few; empty elsewhere."""
        return ()

    @property
    def metric(self) -> str:
        """What the share of correct answers is called in a report."""
        return "accuracy"

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the prompts come from and under which licence, for the data card."""


def training_prompts(task: Task, seed: int) -> Iterator[Prompt]:
    """The unlabelled training prompts: the one place where a label is left behind.

    Those that cannot be written are refused.
    """
    return _usable((item.prompt for item in task.items("train", seed)), task, "train", _texts)


def held_out_items(task: Task, split: Split, seed: int) -> Iterator[LabelledPrompt]:
    """The prompts of a split with their references. Those that cannot be written are refused."""
    return _usable(task.items(split, seed), task, split, _labelled_texts)


def _usable(items: Iterable[T], task: Task, split: Split, texts: Callable[[T], Iterable[str]]) -> Iterator[T]:
    """Rows of data were looked at when they were read; a task of one's own may give anything."""
    number = 0

    def placed() -> Iterator[tuple[Place, T]]:
        nonlocal number
        for number, item in enumerate(items, start=1):
            yield Place(f"{split} prompts of {type(task).__name__}", number, "prompt"), item

    def checked(item: T) -> T:
        try:
            "".join(texts(item)).encode()
        except UnicodeEncodeError:
            raise Refused("a prompt has half of a character (a lone surrogate)") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Refused(f"a prompt is not of texts: {error}") from error
        return item

    yield from each(placed(), checked)
    if (counts := account()) and counts.refused and not counts.rows:
        counts.has_read(task.source, number)


def _texts(prompt: Prompt) -> Iterator[str]:
    yield prompt.prompt_id
    for message in prompt.messages:
        yield from (message["role"], message["content"])
    for key, value in prompt.fields.items():
        yield from (key, value)


def _labelled_texts(item: LabelledPrompt) -> Iterator[str]:
    yield from _texts(item.prompt)
    yield from item.references
    yield from (item.subset, item.group, item.cluster)
