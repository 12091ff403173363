"""Chain-of-Thought (Wei et al., arXiv 2201.11903; zero-shot, Kojima et al., arXiv 2205.11916).

One call: think step by step, then say the final answer behind a prefix. Only what follows the prefix is returned. The
prompt set `zero_shot` has the latter paper's sentence; that paper asks for the answer in a second call.
"""

from dataclasses import dataclass

from s2d_ray.data.records import Prompt, user
from s2d_ray.methods.method import GenerateFunction, PlainExamples
from s2d_ray.methods.parsing import parse_final_answer
from s2d_ray.methods.turns import before


@dataclass(frozen=True)
class ChainOfThoughtPrompts:
    """The wording of the call; `{question}` is what is asked."""

    think: str
    answer_prefix: str
    """What comes before the final answer, followed by a colon or `is`."""
    examples: tuple[tuple[str, str, str], ...] = ()
    """Worked (question, chain, final answer) shown before, for models that need them."""
    reply: str = ""
    """How a worked example puts `{chain}` and `{answer}`."""

    @property
    def plain_examples(self) -> PlainExamples:
        """The questions, with the final answer alone."""
        return [(question, answer) for question, _, answer in self.examples]


async def chain_of_thought(prompt: Prompt, generate: GenerateFunction, prompts: ChainOfThoughtPrompts) -> str:
    """The final answer that the model gives after thinking step by step."""
    # A task that asks System 1 for the bare answer keeps the question itself apart: thinking needs room.
    asked = prompt.fields.get("bare", prompt.text)
    shown = [
        (prompts.think.format(question=question), prompts.reply.format(chain=chain, answer=answer))
        for question, chain, answer in prompts.examples
    ]
    ask = user(prompts.think.format(question=asked))
    [chain_completion] = await generate([*before(prompt, shown), ask], step="think")
    return parse_final_answer(chain_completion, prompts.answer_prefix)


PROMPT_SETS = {
    "zero_shot": ChainOfThoughtPrompts(
        think=(
            "{question}\n\nLet's think step by step. Write the final answer alone on the last line, "
            'after "Final answer:".'
        ),
        answer_prefix="final answer",
    ),
    "few_shot": ChainOfThoughtPrompts(
        think="{question}",
        answer_prefix="the answer",
        reply="{chain} The answer is {answer}",
        examples=(
            (
                "A shelf holds 3 boxes with 8 pens each. 5 pens are taken away. How many pens are left?",
                "3 boxes with 8 pens each are 3 * 8 = 24 pens. 5 are taken away, so 24 - 5 = 19 are left.",
                "19",
            ),
            (
                "Kofi reads 12 pages a day on weekdays and twice as many on each day of the weekend. "
                "How many pages does he read in a week?",
                "On 5 weekdays he reads 5 * 12 = 60 pages. On a day of the weekend he reads 2 * 12 = 24 pages, "
                "and on both 2 * 24 = 48. Together 60 + 48 = 108.",
                "108",
            ),
            (
                "A ticket costs $15. Four friends pay with a $100 note. How much money do they get back?",
                "Four tickets cost 4 * 15 = 60 dollars. They get back 100 - 60 = 40 dollars.",
                "40",
            ),
            (
                "Half of the 36 eggs in a crate are brown, and a third of the brown ones are cracked. "
                "How many brown eggs are whole?",
                "There are 36 / 2 = 18 brown eggs. 18 / 3 = 6 of them are cracked, so 18 - 6 = 12 are whole.",
                "12",
            ),
        ),
    ),
}
