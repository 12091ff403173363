"""A chat as token ids: the one place where they are made, for the engine, for training and for planning.

System 1 is trained on the very prompt that it is served, and learns what it must generate right after it. What control
tokens a message has in its text stay text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from s2d_ray.data.records import Message, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat, TemplateArguments
from s2d_ray.rendering.thoughts import SWITCHES, Split, marks_of

SAID = "\ufdd0"
"""Stands for what an assistant says; no text has it."""
OWN_ARGUMENTS = {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize"}
"""What a recipe's `template` may not name: the renderer says them itself."""


class RefusedChat(UserError):
    """The chat template refuses a chat."""


class OpenThought(RefusedChat):
    """What would be learned would be learned as a part of a thought."""


class Pair(NamedTuple):
    """A prompt, and what is learned right after it."""

    prompt: list[int]
    target: list[int]
    """The last turn, with the token that ends it."""


@dataclass(frozen=True)
class Rendered:
    """A prompt."""

    tokens: list[int]
    opened: bool
    """Whether it ends inside a thought."""
    thinks: bool
    """Whether the template was told that the model shall think."""


class _Turn(NamedTuple):
    """What the template has around an assistant's words, after the prompt."""

    before: str
    after: str
    end: int | None
    """The token that ends the turn; None where neither the template nor the tokenizer has one."""


class Renderer:
    """A tokenizer and how chats are put to its model.

    Raises UserError where there is no chat template, or what the recipe says of it cannot be.
    """

    def __init__(self, tokenizer: Any, chat: Chat = DEFAULT_CHAT) -> None:
        self.tokenizer, self._chat = tokenizer, chat
        self.template = _template(tokenizer, chat)
        self.marks = marks_of(self.template, chat.reasoning)
        self.switch = _switch(self.template)
        added = tokenizer.added_tokens_decoder.values()
        # As transformers' own `sanitize_control_tokens` chooses them.
        control = {t.content for t in added if t.special or (t.content in self.template and not t.content.isspace())}
        longest_first = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self.hides_marks = self.marks is not None and any(
            t.special and t.content in mark for t in added for mark in self.marks.names
        )
        """Whether a text without special tokens has no marks either."""

    @classmethod
    def load(cls, model: Path, trust_remote_code: bool, chat: Chat = DEFAULT_CHAT) -> "Renderer":
        """Of a model's folder on this machine. Raises UserError where its tokenizer cannot be loaded, too."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        except (ImportError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the tokenizer of {model} cannot be loaded ({reason})") from error
        return cls(tokenizer, chat)

    def arguments(self, template: TemplateArguments | None = None, thinking: bool | None = None) -> dict[str, Any]:
        """What the template is told in a call: what the recipe says, the call's own `template`, the switch.

        The switch is off unless either names it, or `thinking` says so.
        """
        told = {**self._chat.arguments, **(template or {})}
        if own := OWN_ARGUMENTS & told.keys():
            raise UserError(f"template: {', '.join(sorted(own))} is not for a recipe to say: leave it out")
        if self.switch and (thinking is not None or self.switch not in told):
            told[self.switch] = bool(thinking)
        return told

    def prompt(
        self,
        messages: Sequence[Message],
        template: TemplateArguments | None = None,
        thinking: bool | None = None,
    ) -> Rendered:
        """What the model is given to answer a chat. Raises RefusedChat."""
        told = self.arguments(template, thinking)
        text, marked = self._prompt_text(messages, told)
        return Rendered(self._encode(text, marked), self._opens(text), bool(told.get(self.switch or "")))

    def split(self, prompt: Rendered, stop: Sequence[str] = ()) -> Split:
        """For what the model generates after that prompt; `stop` texts end what is said."""
        return Split(self.marks, prompt.opened, prompt.thinks, stop)

    def expects_thought(self, prompt: Rendered) -> bool:
        """Whether what the model generates after that prompt begins with a thought, or says that there is none."""
        return self.split(prompt).expects_thought

    def pair(self, messages: Sequence[Message]) -> Pair:
        """System 1's prompt of a chat, and its last turn as generated after it. Raises RefusedChat."""
        *given, last = messages
        text, marked = self._prompt_text(given, self.arguments())
        before, after, end = self._turn
        if end is None:
            raise UserError("nothing ends an answer: neither the chat template nor the tokenizer has a token for it")
        if self._opens(text) or self._opens(text + before):
            raise OpenThought(self._open_thought())
        said = self._marked(last["content"])
        marked = marked or said != last["content"]
        prompt, whole = self._encode(text, marked), self._encode(text + before + said + after, marked)
        # Tokens as they are in their place, unless the prompt's own would become others by what follows.
        ahead = len(prompt)
        target = whole[ahead:] if whole[:ahead] == prompt else self._encode(before + said + after, marked)
        return Pair(prompt, [*target, end])

    @property
    def end(self) -> int | None:
        """The token that ends an assistant's turn, after which nothing more is generated; None where there is none."""
        return self._turn.end

    @property
    def can_think(self) -> bool:
        """Whether the template has a switch for thinking or marks of a thought."""
        return self.switch is not None or self.marks is not None

    @property
    def trained_template(self) -> str:
        """The template with what System 1 is told as its defaults: told nothing, it makes the same prompts."""
        told = "".join(
            f"{{%- if {name} is not defined %}}{{%- set {name} = {value!r} %}}{{%- endif +%}}"
            for name, value in self.arguments().items()
        )
        return self.template if self.template.startswith(told) else told + self.template

    @cached_property
    def _turn(self) -> _Turn:
        asked, told = [user("Hello")], self.arguments()
        try:
            prompt = self._text(asked, told, generation=True)
            before, _, after = self._text([*asked, assistant(SAID)], told).partition(SAID)
        except RefusedChat:  # It takes other chats, which may end with what a user says alone.
            return _Turn("", "", self.tokenizer.eos_token_id)
        before = before.removeprefix(prompt) if before.startswith(prompt) else ""
        found = self._control.search(after)
        if found and not after[: found.start()].strip():
            return _Turn(before, after[: found.start()], self.tokenizer.convert_tokens_to_ids(found[0]))
        return _Turn(before, "", self.tokenizer.eos_token_id)

    def _prompt_text(self, messages: Sequence[Message], told: TemplateArguments) -> tuple[str, bool]:
        """The text, and whether it has marked control tokens."""
        given = [dict(message) for message in messages]
        marked = self._marked(given)
        return self._text(marked, told, generation=True), marked != given

    def _text(self, messages: Sequence[Any], told: TemplateArguments, generation: bool = False) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.template,
                add_generation_prompt=generation,
                tokenize=False,
                **told,
            )
        except (TemplateError, TypeError, ValueError) as error:  # It is a program, which does with values as it likes.
            words = " ".join(str(error).split()).rstrip(".")
            raise RefusedChat(f"the chat template refuses this chat ({words})") from error
        return text

    def _marked(self, given: Any) -> Any:
        from transformers.utils.chat_template_utils import mark_control_tokens

        return mark_control_tokens(given, self._control)

    def _encode(self, text: str, marked: bool) -> list[int]:
        if not marked:
            plain: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
            return plain
        from transformers.utils.chat_template_utils import encode_marked_chat

        tokens: list[int] = encode_marked_chat(self.tokenizer, text)
        return tokens

    def _opens(self, text: str) -> bool:
        return self.marks is not None and text.rstrip().endswith(self.marks.names[0])

    def _open_thought(self) -> str:
        said = f"template: {{{self.switch}: false}}, or " if self.switch else ""
        return (
            "the chat template leaves a thought open before System 1's answer, which would be trained as a part of it: "
            f"set {said}chat_template: FILE.jinja, one that closes it"
        )


def _template(tokenizer: Any, chat: Chat) -> str:
    try:
        template: str = tokenizer.get_chat_template(chat.template)
    except ValueError as error:
        raise UserError("the model has no chat template: set chat_template: FILE.jinja") from error
    except NotImplementedError as error:  # Of mistral-common's tokenizers, which have their own way.
        raise UserError("the model's tokenizer takes no chat template: name a copy without tekken.json") from error
    return template


def _switch(template: str) -> str | None:
    """The name of the template's switch for thinking, where it reads one that is known."""
    from jinja2.meta import find_undeclared_variables
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        environment = _compile_jinja_template(template).environment
        read = find_undeclared_variables(environment.parse(template))
    except TemplateError as error:
        raise UserError(f"the chat template is no Jinja template: {error}; set chat_template: FILE.jinja") from error
    return next((name for name in SWITCHES if name in read), None)
