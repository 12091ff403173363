"""How the replies to one prompt look in a terminal: beside each other where it is wide enough, else one by one."""

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from s2d_ray.arms import label
from s2d_ray.data.records import Prompt, Step
from s2d_ray.methods.turns import transcript
from s2d_ray.runs.ask import Reply

COLUMN = 38
"""Characters that a reply needs to stand beside another."""


def show_replies(prompt: Prompt, replies: Sequence[Reply], console: Console) -> None:
    """Print the prompt and the replies to it; without colours and line breaks where the console is no terminal."""
    console.print(Text(_printable(transcript(prompt.messages)), "bold"), soft_wrap=not console.is_terminal)
    if console.is_terminal and console.width >= COLUMN * len(replies):
        console.print(_beside_each_other(replies))
        return
    for reply in replies:
        for part in (_title(reply), *map(_step, reply.steps), _outcome(reply)):
            console.print()
            console.print(part, soft_wrap=not console.is_terminal)


def _beside_each_other(replies: Sequence[Reply]) -> Table:
    """A column a reply and a row a step, so that the answers are in one line."""
    columns = (Column(ratio=1) for _ in replies)
    table = Table(*columns, box=None, show_header=False, expand=True, padding=(1, 3, 0, 0))
    table.add_row(*map(_title, replies))
    for steps in zip_longest(*(reply.steps for reply in replies)):
        table.add_row(*(_step(step) if step else "" for step in steps))
    table.add_row(*map(_outcome, replies))
    return table


def _title(reply: Reply) -> Text:
    title = Text.assemble((label(reply.arm), "bold cyan"), f"\n{reply.method} of {reply.model}")
    return title.append(f"\n{_printable(reply.note)}", "dim") if reply.note else title


def _step(step: Step) -> Text:
    cut = ", cut by the token limit" if step.finish_reason == "length" else ""
    said = _printable(step.text.strip()) or "(nothing)"
    head = f"{step.name} ({_cost(step.completion_tokens, step.seconds)}{cut})\n"
    thought = _printable(step.thought.strip())
    return Text.assemble((head, "dim"), (f"thought: {thought}\n\n" if thought else "", "dim italic"), said)


def _outcome(reply: Reply) -> Text:
    if reply.answer is not None:
        answer = Text.assemble("Answer: ", (_printable(reply.answer), "bold green"))
    else:
        reason = _printable(reply.error) or "the text gives none"
        answer = Text.assemble("Answer: ", ("none", "bold red"), f" ({reason})")
    return answer.append(f"\n{_cost(reply.tokens, reply.seconds)} in all", "dim")


def _cost(tokens: int, seconds: float) -> str:
    return f"{tokens} token{'' if tokens == 1 else 's'}, {seconds:.2f} s"


def _printable(text: str) -> str:
    """Control characters could move the cursor: they become the replacement character."""
    return "".join(c if c == "\n" or unicodedata.category(c) != "Cc" else "\N{REPLACEMENT CHARACTER}" for c in text)
