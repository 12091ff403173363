"""Token ids and what of them is learned, with real tokenizers and chat templates."""

from typing import Any

import pytest

from s2d_ray.data.records import Message, assistant, user
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.encoding import Encoded, encode, pack

WORDS = ["<unk>", "<s>", "<start>", "<end>", "</s>", "user", "assistant", "system", "Where", "Lyon", "France", "is"]
WORDS += ["in", "It", "?", ".", "Hello", "think", "answer:"]
CHATML = (
    "{% for m in messages %}<start>{{ m.role }} {{ m.content }}<end> {% endfor %}"
    "{% if add_generation_prompt %}<start>assistant {% endif %}"
)
# The last turn is written otherwise where it is the assistant's: what encode() gets is no continuation.
OTHERWISE = (
    "{% for m in messages %}{% if loop.last and m.role == 'assistant' %}<start>assistant {{ m.content }}</s>"
    "{% else %}<start>{{ m.role }} {{ m.content }}<end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start>assistant answer: {% endif %}"
)
# With a start token of its own, an end of turn that is not the end of the text, and a stop after it.
WITH_START = (
    "<s>{% for m in messages %}<start>{{ m.role }} {{ m.content }}</s> {% endfor %}"
    "{% if add_generation_prompt %}<start>assistant {% endif %}"
)
CHAT: list[Message] = [user("Where is Lyon ?"), assistant("It is in France .")]
TARGET = ["It", "is", "in", "France", "."]


def make(template: str, end: str) -> Any:
    """A tokenizer of these words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<s>", "<start>", "<end>", "</s>"]
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": special})
    made.chat_template = template
    return made


def words(ids: list[int]) -> list[str]:
    return [WORDS[i] for i in ids]


@pytest.mark.parametrize(("template", "end"), [(CHATML, "<end>"), (WITH_START, "</s>")])
def test_the_prompt_is_what_generation_sees_and_the_target_ends_the_turn(template: str, end: str) -> None:
    tokenizer = make(template, end)
    example = encode(CHAT, Renderer(tokenizer))
    seen = tokenizer.apply_chat_template([*CHAT[:-1]], add_generation_prompt=True, tokenize=True, return_dict=False)
    assert example.prompt == seen
    assert words(example.prompt)[-2:] == ["<start>", "assistant"]
    assert words(example.target) == [*TARGET, end]
    assert len(example) == len(example.prompt) + 6
    assert words(example.prompt).count("<s>") == (template == WITH_START)


def test_earlier_turns_condition_and_only_the_last_is_learned() -> None:
    chat = [user("Hello"), assistant("Hello ."), *CHAT]
    example = encode(chat, Renderer(make(CHATML, "<end>")))
    assert words(example.prompt).count("Hello") == 2
    assert words(example.target) == [*TARGET, "<end>"]


def test_a_template_that_writes_the_last_turn_otherwise_teaches_the_plain_target() -> None:
    example = encode(CHAT, Renderer(make(OTHERWISE, "</s>")))
    assert words(example.prompt)[-3:] == ["<start>", "assistant", "answer:"]
    assert words(example.target) == [*TARGET, "</s>"]


def test_the_end_is_learned_where_the_template_does_not_write_it() -> None:
    template = CHATML.replace("<end> ", " ")
    assert words(encode(CHAT, Renderer(make(template, "</s>"))).target) == [*TARGET, "</s>"]


EXAMPLES = [Encoded([10, 11, 12], [13, 14]), Encoded([20], [21]), Encoded([30, 31], [32, 33, 34])]


def test_packed_examples_lie_end_to_end_and_each_starts_at_position_0() -> None:
    packed = pack(EXAMPLES)
    assert packed.input_ids == [10, 11, 12, 13, 14, 20, 21, 30, 31, 32, 33, 34]
    assert packed.position_ids == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4]


def test_every_target_token_is_predicted_from_the_place_before_it_and_no_prompt_token_is() -> None:
    packed = pack(EXAMPLES)
    assert packed.targets == [13, 14, 21, 32, 33, 34]
    assert [packed.input_ids[place + 1] for place in packed.predicting] == packed.targets
    assert packed.predicting == [2, 3, 5, 8, 9, 10]


def test_packing_one_is_packing_it_alone() -> None:
    together = pack(EXAMPLES)
    alone = [pack([example]) for example in EXAMPLES]
    assert together.input_ids == [token for packed in alone for token in packed.input_ids]
    assert together.position_ids == [place for packed in alone for place in packed.position_ids]
    assert together.targets == [token for packed in alone for token in packed.targets]
    assert pack([]).input_ids == []
