"""From a chat that ends with its target to token ids, of which only the target's count in the loss."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2d_ray.data.records import Message, content_id
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.rendering.renderer import Renderer

ENCODING_VERSION = 2
"""To be counted up with every change of what `encode` makes of a chat, so that tokens made before are not used."""
TOKENIZER_FILES = (".json", ".jinja", ".model", ".tiktoken", ".txt", ".py")
"""Suffixes of the files that a tokenizer and its chat template are in; some bring code."""


@dataclass(frozen=True)
class Encoded:
    """One training example: `prompt` conditions, `target` (with the end-of-turn token) is learned."""

    prompt: list[int]
    target: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


def encode(messages: Sequence[Message], renderer: Renderer) -> Encoded:
    """The tokens of a chat whose last turn is the target, exactly as generation would see the prompt."""
    return Encoded(*renderer.pair(messages))


def encoding_id(model: Path, pairs: Sequence[Path], chat: Chat = DEFAULT_CHAT) -> str:
    """A name for the tokens of these files of pairs, by what decides them.

    Those are the content of the files, of the tokenizer in the model's folder with its chat template, what the recipe
    says of chats, and the version of the encoding.
    """
    tokenizer = sorted(file for file in model.iterdir() if file.suffix in TOKENIZER_FILES and file.is_file())
    names = (file.name for file in tokenizer)
    return content_id(str(ENCODING_VERSION), chat.model_dump_json(), *names, *map(_digest, (*tokenizer, *pairs)))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


@dataclass(frozen=True)
class Packed:
    """Examples laid end to end in one row, so that nothing is padded.

    Positions start at 0 with each example, which is how transformers tells the examples apart.
    """

    input_ids: list[int]
    position_ids: list[int]
    predicting: list[int]
    """Places in the row whose logits predict a target token: the only ones that the loss reads."""
    targets: list[int]
    """The tokens predicted there."""
    weights: list[float]
    """What each of them weighs in the loss: those of one example weigh 1 together, however many they are."""


def pack(examples: Sequence[Encoded]) -> Packed:
    """One row of all the examples."""
    packed = Packed([], [], [], [], [])
    for example in examples:
        first = len(packed.input_ids) + len(example.prompt)
        packed.predicting.extend(range(first - 1, first - 1 + len(example.target)))
        packed.targets.extend(example.target)
        packed.weights.extend([1 / len(example.target)] * len(example.target))
        packed.input_ids.extend([*example.prompt, *example.target])
        packed.position_ids.extend(range(len(example)))
    return packed
