"""A model in a test that thinks only when it is told to, and an engine that tells its thought from its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from s2d_ray.data.records import Completion, Message
from s2d_ray.recipes.sections import Sampling
from tests.watched_engine import Call

Script = Callable[[Sequence[Message], Random, bool], str]
"""What the model generates to a chat, its thought between `<think>` and `</think>`; told whether it is to think."""


@dataclass
class HybridEngine:
    """Tokens are words; stop texts end what is said, as those of a real engine do."""

    script: Script
    calls: list[Call] = field(default_factory=list[Call])

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        self.calls.append(Call(list(messages), sampling, n, seed))
        return [self._one(messages, sampling, Random(f"{seed}/{index}")) for index in range(n)]

    def _one(self, messages: Sequence[Message], sampling: Sampling, random: Random) -> Completion:
        said = self.script(messages, random, bool(sampling.thinking))
        pieces = said.split(" ")
        most = sampling.most_tokens(said.startswith("<think>"))
        kept = " ".join(pieces[:most])
        cut = "length" if len(pieces) > most else "stop"
        thought, ended, text = kept.partition("</think>") if kept.startswith("<think>") else ("", "", kept)
        spent = min(len(pieces), most)
        text = text.lstrip() if ended else "" if thought else text
        for stop in sampling.stop:
            text, stopped, _ = text.partition(stop)
            cut = "stop" if stopped else cut
        return Completion(text, cut, 1, 0, spent, thought=thought[len("<think>") :])
