"""How model families mark a thought, and how it is told from the text after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from s2d_ray.errors import UserError

NO_PARSER = "none"
"""As a recipe's `reasoning`: nothing is taken for a thought."""


@dataclass(frozen=True)
class Marks:
    """What a family's models write before and after a thought."""

    start: str
    end: str
    parsers: tuple[str, ...]
    """vLLM's names of the reasoning parsers for these marks."""
    before_end: str = ""
    """What closes the thought itself, where `end` opens what follows."""
    always: bool = False
    """Whether every answer has the end mark, with a thought before it or without."""

    @property
    def forced_end(self) -> str:
        """What ends a thought that has become too long."""
        return self.before_end + self.end

    @cached_property
    def names(self) -> tuple[str, str]:
        """Both, without line breaks around them."""
        return self.start.strip(), self.end.strip()

    def inside(self, text: str) -> str:
        """The thought in what stands before the end mark."""
        before, start, after = text.partition(self.names[0])
        return (after if start else before).strip().removesuffix(self.before_end).strip()


# fmt: off
THINK = Marks("<think>", "</think>", (
    "deepseek_r1", "deepseek_v3", "deepseek_v4", "ernie45", "glm45", "glm47", "holo2", "hunyuan_a13b", "hy_v3",
    "kimi_k2", "ling3", "mimo", "minimax_m2", "nemotron_v3", "olmo3", "poolside_v1", "qwen3", "step3", "step3p5",
))
# fmt: on
_FAMILIES = (
    Marks(
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        ("openai_gptoss",),
        before_end="<|end|><|start|>assistant",
        always=True,
    ),
    Marks("<|channel>thought\n", "<channel|>", ("gemma4",)),
    Marks("[THINK]", "[/THINK]", ("mistral",)),
    Marks("<seed:think>", "</seed:think>", ("seed_oss",)),
    Marks("<|START_THINKING|>", "<|END_THINKING|>", ("cohere_command3", "cohere_command4")),
    Marks("Here is my thought process:", "Here is my response:", ("granite",)),
    THINK,
)
SWITCHES = ("enable_thinking", "thinking", "reasoning")
"""What chat templates call the switch for thinking; the first that a template reads is its own."""


def marks_of(template: str, reasoning: str | None = None) -> Marks | None:
    """The marks of a thought by the recipe's `reasoning`, else those that the chat template has.

    None where there are none. Raises UserError for a parser whose marks are not known here.
    """
    if reasoning is None:
        return next((marks for marks in _FAMILIES if any(name in template for name in marks.names)), None)
    if reasoning == NO_PARSER:
        return None
    known = {parser: marks for marks in _FAMILIES for parser in marks.parsers}
    if reasoning not in known:
        raise UserError(f"reasoning: {reasoning} is not known here; there are {', '.join(sorted(known))}, {NO_PARSER}")
    return known[reasoning]


class Split:
    """A text that comes in pieces, told apart into the thought at its beginning and what is said after it.

    What is said depends on the whole text alone, not on its pieces.
    """

    def __init__(
        self, marks: Marks | None, opened: bool = False, expected: bool = False, stop: Sequence[str] = ()
    ) -> None:
        """`opened`: the prompt ends inside a thought. `expected`: one is likely, even if no mark begins it.

        `stop`: texts that end what is said, the one that is whole first; in a thought they are words like others.
        """
        self.thought = self.text = ""
        self.stopped = False
        """Whether one of them came: all further pieces are for nothing."""
        self._stop, self._told = stop, 0
        self._unsure = max(map(len, stop), default=1) - 1
        """Characters at the end of what is said that may still turn out to be the beginning of a stop text."""
        self._marks = marks
        self._opened = opened
        self.expects_thought = marks is not None and (opened or expected or marks.always)
        self._held = ""
        """What may still turn out to be a thought."""
        self._parted = False
        """Whether a thought is over: the line breaks between it and the text are no part of either."""

    def add(self, piece: str) -> str:
        """The next piece. Gives what is said for certain by now, that was not given before."""
        if self.stopped:
            return ""
        if self._marks is None:
            return self._said(piece)
        self._held += piece
        start, begun = self._marks.names[0], self._held.lstrip()
        if not (self.expects_thought or begun.startswith(start) or start.startswith(begun)):
            return self._over(self._held)
        end = self._marks.names[1]
        place = self._held.find(end, max(0, len(self._held) - len(piece) - len(end)))
        if place < 0:
            return ""
        self.thought, self._parted = self._marks.inside(self._held[:place]), True
        return self._over(self._held[place + len(end) :])

    def finish(self) -> str:
        """After the last piece: what was held back, unless it is a thought that never ended."""
        if self._marks is None:
            return self._said("", last=True)
        if self._opened or self._marks.names[0] in self._held:
            self.thought = self._marks.inside(self._held)
            return ""
        return self._over(self._held) + self._said("", last=True)

    def _over(self, rest: str) -> str:
        self._marks = None
        return self._said(rest)

    def _said(self, piece: str, last: bool = False) -> str:
        if self._parted and not self.text:
            piece = piece.lstrip()
        self.text += piece
        places = ((self.text.find(one, self._told), one) for one in self._stop)
        if found := [(place + len(one), place) for place, one in places if place >= 0]:
            self.text, self.stopped = self.text[: min(found)[1]], True
        begun = self._told
        self._told = max(begun, len(self.text) - (0 if last or self.stopped else self._unsure))
        return self.text[begun : self._told]
