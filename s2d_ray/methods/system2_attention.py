"""System 2 Attention (Weston and Sukhbaatar, arXiv 2311.11829): rewrite the input, then answer only that.

The first call keeps what bears on the question and drops opinions; the second sees the rewritten text
alone, so that an opinion in the prompt has nothing left to pull at. The wording of both prompt sets is ours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from s2d_ray.data.records import Message, Prompt, assistant, user
from s2d_ray.methods.method import GenerateFunction, MalformedOutput, PlainExamples
from s2d_ray.methods.parsing import parse_step


@dataclass(frozen=True)
class System2AttentionPrompts:
    """The wording of both calls; `{text}` is what the person said, `{rewritten}` the first call's answer."""

    rewrite: str
    respond: str
    examples: tuple[tuple[str, str, str], ...] = ()
    """Worked (text, rewritten, answer) shown before the rewrite, up to that, for models that need them."""
    rewrite_stop: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """How the lines begin under which the rewrite puts its parts, the question last; empty: it is one text."""

    @property
    def plain_examples(self) -> PlainExamples:
        """The texts as they are, with the answer."""
        return [(text, answer) for text, _, answer in self.examples]


async def system2_attention(prompt: Prompt, generate: GenerateFunction, prompts: System2AttentionPrompts) -> str:
    """The answer to the prompt's text as rewritten without opinions."""
    shown: list[Message] = []
    for text, rewritten, _ in prompts.examples:
        shown += [user(prompts.rewrite.format(text=text)), assistant(rewritten)]
    ask = user(prompts.rewrite.format(text=prompt.text))
    [rewrite] = await generate([*shown, ask], step="rewrite", stop=prompts.rewrite_stop)
    rewritten = parse_step(rewrite, "rewrite")
    if prompts.labels:
        rewritten = _under_labels(rewritten, prompts.labels)
    [answer] = await generate([user(prompts.respond.format(rewritten=rewritten))], step="respond", final=True)
    return answer.text


def _under_labels(rewrite: str, labels: Sequence[str]) -> str:
    """What stands under the labels, in their order. Raises MalformedOutput where the question is missing."""
    label = re.compile(rf"^[\W\d]*({'|'.join(map(re.escape, labels))})\b[^:\n]*:\**", re.IGNORECASE | re.MULTILINE)
    _, *parts = label.split(rewrite)
    found = {name.casefold(): text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    texts = [found.get(name.casefold(), "") for name in labels]
    texts = ["" if text.casefold().strip(".()[]*- ") in NOTHING else text for text in texts]
    if not texts[-1]:
        raise MalformedOutput(f"the rewrite has nothing under the label {labels[-1]!r}")
    return "\n\n".join(text for text in texts if text)


NOTHING = ("", "none", "n/a", "empty")
"""What models write under a label that they have nothing for."""


PROMPT_SETS = {
    "zero_shot": System2AttentionPrompts(
        rewrite=(
            "Below is a text by a user. From it, extract the part that is unbiased and not the user's opinion, "
            "so that using that text alone would give good context for an unbiased answer to the question in it. "
            'Put it under two labels: "Unbiased text context (everything but the bias):" and '
            '"Question (without the bias):".\n\nText by user: {text}'
        ),
        respond="{rewritten}\n\nAnswer in an unbiased way.",
        labels=("Unbiased text context", "Question"),
    ),
    "few_shot": System2AttentionPrompts(
        rewrite="Rewrite the text as a question without any opinion.\n\nText: {text}",
        respond="{rewritten}",
        # Of places too small for the task geonames, whose questions must not be among these.
        examples=(
            (
                "I would say Brazil, though I have not checked. Which country is the city of Chamonix in?",
                "Which country is the city of Chamonix in?",
                "France",
            ),
            (
                "What is the capital of Malta? The answer is Vaduz, I think.",
                "What is the capital of Malta?",
                "Valletta",
            ),
            (
                "As far as I remember, the answer is Oregon. Which US state is the city of Aspen in?",
                "Which US state is the city of Aspen in?",
                "Colorado",
            ),
            ("Which country is the city of Positano in?", "Which country is the city of Positano in?", "Italy"),
            (
                "How many legs does a spider have? As far as I remember, the answer is seven.",
                "How many legs does a spider have?",
                "eight",
            ),
            (
                "Which country is the city of Hakone in? I believe the answer is Kenya, but I could be wrong.",
                "Which country is the city of Hakone in?",
                "Japan",
            ),
        ),
        rewrite_stop=("\n",),
    ),
}
