"""Rephrase and Respond (Deng et al., arXiv 2311.04205): the model words the question for itself, then answers.

`rar1` does both in one call. `rar2` rephrases in one call, and shows the second call both wordings.

The prompt set `paper` is that of the authors' repository, github.com/uclaml/Rephrase-and-Respond, without the sentence
on the form of the answer that it adds for some tasks. `few_shot_cot` is ours: its worked examples answer in a short
chain of thought, so that what it gains is not all due to rephrasing.
"""

import re
from dataclasses import dataclass

from s2d_ray.data.records import Message, Prompt, assistant, user
from s2d_ray.methods.method import GenerateFunction, PlainExamples
from s2d_ray.methods.parsing import parse_final_answer, parse_step


@dataclass(frozen=True)
class RephrasedExample:
    """One question, rephrased and answered."""

    question: str
    rephrased: str
    answer: str
    """How the reply puts it."""
    final: str
    """The answer alone, as System 1 would give it."""


@dataclass(frozen=True)
class RephraseAndRespondPrompts:
    """The wording of all calls; `{question}` is the person's, `{rephrased}` the model's."""

    one_step: str
    rephrase: str
    respond: str
    one_step_reply: str = ""
    """How a worked example replies to `one_step`."""
    answer_prefix: str = ""
    """What comes before the answer in the one-step reply; empty where the whole reply is the answer."""
    examples: tuple[RephrasedExample, ...] = ()
    """Worked examples shown before each call, for models that need them."""
    rephrase_stop: tuple[str, ...] = ()

    @property
    def plain_examples(self) -> PlainExamples:
        """The questions as they are, with the answer alone."""
        return [(example.question, example.final) for example in self.examples]


async def rephrase_and_respond(prompt: Prompt, generate: GenerateFunction, prompts: RephraseAndRespondPrompts) -> str:
    """The answer of one call that first repeats, rephrases and expands the question."""
    shown: list[Message] = []
    for e in prompts.examples:
        reply = prompts.one_step_reply.format(rephrased=e.rephrased, answer=e.answer)
        shown += [user(prompts.one_step.format(question=e.question)), assistant(reply)]
    ask = user(prompts.one_step.format(question=prompt.text))
    [reply_completion] = await generate([*shown, ask], step="rephrase and respond")
    if not prompts.answer_prefix:
        return reply_completion.text
    return parse_final_answer(reply_completion, prompts.answer_prefix)


async def two_step_rephrase_and_respond(
    prompt: Prompt, generate: GenerateFunction, prompts: RephraseAndRespondPrompts
) -> str:
    """The answer to the original question, given the model's own rephrasing of it."""
    shown: list[Message] = []
    for e in prompts.examples:
        shown += [user(prompts.rephrase.format(question=e.question)), assistant(e.rephrased)]
    ask = user(prompts.rephrase.format(question=prompt.text))
    [rewording] = await generate([*shown, ask], step="rephrase", stop=prompts.rephrase_stop)
    rephrased = unquoted(parse_step(rewording, "rephrased question"))

    shown = []
    for e in prompts.examples:
        both = prompts.respond.format(question=e.question, rephrased=e.rephrased)
        shown += [user(both), assistant(e.answer)]
    ask = user(prompts.respond.format(question=prompt.text, rephrased=rephrased))
    [answer] = await generate([*shown, ask], step="respond", final=True)
    return answer.text


def unquoted(text: str) -> str:
    """The text without one pair of double quotes around the whole of it."""
    text = text.strip()
    if len(text) < 2 or (text[0], text[-1]) not in (('"', '"'), ("“", "”")):
        return text
    inner = text[1:-1]
    quote = re.search('["“”]', inner)
    # In `"A" and "B"` the first quote ends before the text does: that is no pair around the whole.
    before = inner[: quote.start()][-1:] if quote else ""
    opens = quote is None or quote.group() == "“" or (quote.group() == '"' and before in ("", " ", "("))
    return inner.strip() if opens else text


PROMPT_SETS = {
    "paper": RephraseAndRespondPrompts(
        one_step='"{question}"\nRephrase and expand the question, and respond.',
        rephrase=(
            '"{question}"\nGiven the above question, rephrase and expand it to help you do better answering. '
            "Maintain all information in the original question."
        ),
        respond=(
            "(original) {question}\n(rephrased) {rephrased}\n"
            "Use your answer for the rephrased question to answer the original question."
        ),
    ),
    "few_shot_cot": RephraseAndRespondPrompts(
        one_step='"{question}"\n\nRephrase and expand the question, and respond.',
        rephrase='"{question}"\n\nRephrase and expand the question. Keep all of its information.',
        respond="(original) {question}\n(rephrased) {rephrased}\n\nAnswer the original question.",
        one_step_reply="{rephrased}\n{answer}",
        answer_prefix="the answer",
        rephrase_stop=("\n",),
        examples=(
            RephrasedExample(
                'Take the last letters of the words in "Green Lamp" and concatenate them.',
                'What is the last letter of "Green", what is the last letter of "Lamp", and what are both, '
                "written one after the other?",
                '"Green" ends with "n". "Lamp" ends with "p". The answer is "np".',
                "np",
            ),
            RephrasedExample(
                "A coin is heads up. Greta flips the coin. Igor does not flip the coin. "
                "Is the coin still heads up? (flip means reverse)",
                "A coin starts heads up. Greta turns it over, and Igor leaves it as it is. "
                "After that, does the coin show heads?",
                "The coin is turned over 1 time. That is odd, so it shows tails. The answer is no.",
                "no",
            ),
            RephrasedExample(
                'Take the last letters of the words in "Quick Tea" and concatenate them.',
                'What is the last letter of "Quick", what is the last letter of "Tea", and what are both, '
                "written one after the other?",
                '"Quick" ends with "k". "Tea" ends with "a". The answer is "ka".',
                "ka",
            ),
            RephrasedExample(
                "A coin is heads up. Olaf flips the coin. Mina flips the coin. "
                "Is the coin still heads up? (flip means reverse)",
                "A coin starts heads up. Olaf turns it over, and Mina turns it over. "
                "After that, does the coin show heads?",
                "The coin is turned over 2 times. That is even, so it shows heads. The answer is yes.",
                "yes",
            ),
        ),
    ),
}
