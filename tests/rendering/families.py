# ruff: noqa: RUF001
"""Model families by the shape of their chat templates, each with a tokenizer that has the family's control tokens."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TEMPLATES = Path(__file__).parent / "templates"


class Family(NamedTuple):
    """What a model's tokenizer brings."""

    eos: str
    special: str
    added: str = "<think> </think>"
    """Tokens of their own that no special ones are."""


_CHATML = "<|im_start|> <|im_end|> <|endoftext|>"
_DEEPSEEK = "<｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜>"
FAMILIES = {
    "qwen3": Family("<|im_end|>", _CHATML),
    "qwen3_5": Family("<|im_end|>", _CHATML),
    "deepseek_r1_distill": Family("<｜end▁of▁sentence｜>", _DEEPSEEK),
    "deepseek_v3_1": Family("<｜end▁of▁sentence｜>", _DEEPSEEK),
    "nemotron_3": Family("<|im_end|>", _CHATML),
    "nemotron_2": Family("<SPECIAL_12>", "<SPECIAL_10> <SPECIAL_11> <SPECIAL_12>"),
    "smollm3": Family("<|im_end|>", _CHATML),
    "gpt_oss": Family("<|return|>", "<|start|> <|message|> <|end|> <|channel|> <|return|>", ""),
    # The end of a text, which is not what ends a turn.
    "llama3": Family("<|end_of_text|>", "<|start_header_id|> <|end_header_id|> <|eot_id|> <|end_of_text|>", ""),
    "gemma": Family("<eos>", "<eos> <start_of_turn> <end_of_turn>", "<table> \n\n"),
    "magistral": Family("</s>", "[INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [THINK] [/THINK] </s>", ""),
    "granite": Family("<|end_of_text|>", "<|start_of_role|> <|end_of_role|> <|end_of_text|>", ""),
}


@cache
def _bytes_alone() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return str(raw.to_str())


def tokenizer_of(name: str, template: str | None = None) -> Any:
    """A tokenizer of single bytes and the family's control tokens, with its chat template or another one."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bytes_alone()), eos_token=family.eos, bos_token="<s>"
    )
    for special, tokens in ((True, family.special), (False, family.added)):
        made.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens.split(" ") if token])
    made.chat_template = template or (TEMPLATES / f"{name}.jinja").read_text()
    return made
