"""A real but tiny Llama with random weights and a trained tokenizer, made in a second."""

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING_TEMPLATE = CHAT_TEMPLATE.replace("<|im_end|>", "<|end|>").replace(
    "assistant\n{% endif %}", "assistant\n<think>{% if not enable_thinking %}</think>{% endif %}{% endif %}"
)
"""It opens a thought, and ends it again where the switch is off; what ends a turn does not end a text."""
TEXTS = ["Which country is the city of Lyon in?", "I think the answer is France but I'm really not sure."]


def make_tiny_model(folder: Path, seed: int = 0, embedding_seed: int | None = None) -> Path:
    """Write the model and its tokenizer to `folder`; other seeds give other weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=384, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # Large enough that the layers have a say beside the embedding of the last token.
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    torch.manual_seed(seed if embedding_seed is None else embedding_seed)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.3)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_thinking_model(folder: Path) -> Path:
    """The same with marks of a thought among its special tokens, and a switch in its chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(folder))
    tokenizer.add_tokens(["<think>", "</think>", "<|end|>"], special_tokens=True)
    assert len(tokenizer) <= 384
    tokenizer.chat_template = THINKING_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder
