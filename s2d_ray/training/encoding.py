"""From a chat that ends with its target to token ids, of which only the target's count in the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s2d_ray.records import Message

IGNORED = -100
"""The label that cross entropy passes over."""


@dataclass(frozen=True)
class Encoded:
    """One training example: `prompt` conditions, `target` (with the end-of-turn token) is learned."""

    prompt: list[int]
    target: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


def encode(messages: Sequence[Message], tokenizer: Any) -> Encoded:
    """The tokens of a chat whose last turn is the target, exactly as generation would see the prompt."""
    prompt: list[int] = tokenizer.apply_chat_template(
        list(messages[:-1]), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    whole: list[int] = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
    if whole[: len(prompt)] == prompt:
        target = whole[len(prompt) :]
    else:
        # Templates that treat the last turn differently: the target as plain text after the prompt.
        target = tokenizer.encode(messages[-1]["content"], add_special_tokens=False)
    end = tokenizer.eos_token_id
    return Encoded(prompt, [*(target[: target.index(end)] if end in target else target), end])


def collate(examples: Sequence[Encoded], pad_id: int) -> dict[str, list[list[int]]]:
    """A left-padded batch: `input_ids`, `attention_mask`, `labels`, each of shape (examples, longest).

    Padding on the left puts every target at the right end, so that logits are needed for few positions only.
    """
    width = max(len(example) for example in examples)
    batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        padding = width - len(example)
        batch["input_ids"].append([pad_id] * padding + example.prompt + example.target)
        batch["attention_mask"].append([0] * padding + [1] * len(example))
        batch["labels"].append([IGNORED] * (width - len(example.target)) + example.target)
    return batch


def logits_needed(examples: Sequence[Encoded]) -> int:
    """Positions at the right end whose logits the loss of a left-padded batch reads."""
    return 1 + max(len(example.target) for example in examples)
