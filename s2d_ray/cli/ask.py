"""`s2d ask`: one prompt put to each system."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.spinner import Spinner

from s2d_ray.cli.options import DEFAULT_ROOT, Debug, RecipeName, Root, errors_in_one_line, run_of
from s2d_ray.errors import UserError
from s2d_ray.terminal import console

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[QUESTION] [KEY=VALUE]...",
        help="What to ask, in quotes (a held-out prompt without it), and recipe keys to override, dotted.",
    ),
]
Chat = Annotated[
    Path | None,
    typer.Option(help="JSON file of a chat, a list of {role, content}; it ends with the question, or goes before it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the replies as JSON.")]


def add_to(app: typer.Typer) -> None:
    """Put this command among the others."""
    app.command("ask")(ask_command)


def ask_command(
    recipe: RecipeName,
    words: Words = None,
    chat: Chat = None,
    root: Root = DEFAULT_ROOT,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show what System 1, System 2 and the distilled model, once there is one, do with one prompt."""
    with errors_in_one_line(debug):
        from s2d_ray.runs.ask import read_chat

        question, overrides = _question_and_overrides(words or ())
        run = run_of(recipe, overrides, root)
        with _spinner("asking; an engine takes a while to start"):
            asked = run.ask(question if chat is None else read_chat(chat, question))
        if json_:
            content = {
                "recipe": run.recipe.name,
                "prompt": asdict(asked.prompt),
                "replies": [asdict(reply) for reply in asked.replies],
            }
            print(json.dumps(content, indent=2, ensure_ascii=False))
        else:
            from s2d_ray.cli.replies import show_replies

            show_replies(asked.prompt, asked.replies, console)


def _spinner(text: str) -> Live:
    """Turns while a block runs on a terminal; shows nothing elsewhere."""
    # Redirection would bring what libraries print past `quiet`.
    return Live(Spinner("dots", text), console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def _question_and_overrides(words: Sequence[str]) -> tuple[str | None, list[str]]:
    overrides = [word for word in words if _is_override(word)]
    questions = [word for word in words if word not in overrides]
    if len(questions) > 1:
        raise UserError(f"write the question in quotes, as one word of the command: '{' '.join(questions)}'")
    return (questions[0] if questions else None), overrides


def _is_override(word: str) -> bool:
    """Whether it is a key and its value; `x=5. What is 2x?` is a question, since x is no key of a recipe."""
    from s2d_ray.recipes.recipe import Recipe

    key = re.match(r"(\w+)(\.\w+)*=", word)
    return key is not None and (key[1] in Recipe.model_fields or not re.search(r"\s", word))
