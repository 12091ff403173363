"""A task of plain words and candidates for it, for the tests of the rules."""

from collections.abc import Iterator, Sequence

from s2d_ray.curation.rule import ParsedSamples, parse_samples
from s2d_ray.data.records import Candidates, LabelledPrompt, Prompt, Sample, user
from s2d_ray.tasks.task import Split, Task, Variant

PROMPT = Prompt("p1", [user("Which?")])


class Words(Task):
    """The answer is the text after `is`, compared without case; `swapped` turns left into right."""

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        yield LabelledPrompt(PROMPT, ["left"], "all")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        _, said, answer = text.partition("is ")
        return answer.strip() or None if said else None

    def key(self, answer: str) -> str:
        return answer.casefold()

    def variants(self, prompt: Prompt) -> Sequence[Variant]:
        sides = {"left": "right", "right": "left"}
        swapped = Prompt(prompt.prompt_id, [user("Which, swapped?")])
        return [Variant("swapped", swapped, lambda answer: sides.get(answer, answer))]

    @property
    def source(self) -> str:
        return "made up for tests; CC0"


def candidates(*texts: str, prompt_id: str = "p1", swapped: Sequence[str] = (), error: str = "") -> Candidates:
    """Samples with these texts; `!` stands for a sample that ended in an error."""

    def sample(text: str, variant: str) -> Sample:
        return Sample("", variant, "malformed") if text == "!" else Sample(text, variant)

    samples = [sample(text, "") for text in texts] + [sample(text, "swapped") for text in swapped]
    return Candidates(Prompt(prompt_id, PROMPT.messages, {"kind": "side"}), samples, error)


def parsed(*texts: str, swapped: Sequence[str] = ()) -> ParsedSamples:
    """Samples with these texts, parsed."""
    return parse_samples(candidates(*texts, swapped=swapped), Words())
