"""A model that compares two answers, for tasks where answers in other words may be as good."""

import asyncio
import json

from s2d_ray.curation.samples import parse_sample
from s2d_ray.data.records import Prompt
from s2d_ray.inference.engine import CompletionEngine
from s2d_ray.inference.method_runs import run_method
from s2d_ray.methods.judgements import SWAP
from s2d_ray.methods.method import MalformedOutput, Method
from s2d_ray.methods.turns import transcript
from s2d_ray.recipes.sections import Sampling
from s2d_ray.tasks.judge import Judge

PAIRWISE = Judge()


class PairwiseJudge:
    """Asks a model by a method for pairwise judging (`direct`, `cot` or `bsm`), in both orders."""

    def __init__(self, method: Method, engine: CompletionEngine, sampling: Sampling) -> None:
        self._method, self._engine = method, engine
        # A verdict is not of the form that the answers have.
        self._sampling = sampling.model_copy(update={"answer_format": None})

    async def both_orders(self, prompt: Prompt, answer: str, other: str, seed: int) -> tuple[str | None, str | None]:
        """The verdict with `answer` first, and the one with it second: `A` where it is better, `B` where `other` is.

        None where the model gives none. Raises what the engine raises.
        """
        question = transcript(prompt.messages)
        first, swapped = await asyncio.gather(
            self._verdict(question, answer, other, seed), self._verdict(question, other, answer, seed)
        )
        return first, None if swapped is None else SWAP[swapped]

    async def as_good(self, prompt: Prompt, answer: str, other: str, seed: int) -> bool:
        """Whether `answer` is not worse than `other`; one is worse only where both orders say so.

        Raises MalformedOutput where the model gives no verdict, and what the engine raises.
        """
        verdicts = await self.both_orders(prompt, answer, other, seed)
        if None in verdicts:
            raise MalformedOutput("the judge gives no verdict")
        return verdicts != ("B", "B")

    async def _verdict(self, question: str, response_a: str, response_b: str, seed: int) -> str | None:
        pair = {"question": question, "response_a": response_a, "response_b": response_b}
        asked = PAIRWISE.ask(json.dumps(pair))
        [sample] = await run_method(self._method, asked, self._engine, self._sampling, 1, seed)
        return parse_sample(sample, asked, PAIRWISE)
