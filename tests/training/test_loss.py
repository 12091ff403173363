"""The loss on packed rows: what cross-entropy over all logits is, without all of them at hand."""

from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s2d_ray.recipes.sections import Lora
from s2d_ray.training.encoding import Encoded, pack

# Of peft, about how it asks transformers.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default:`is_gradient_checkpointing` is dep:FutureWarning")]

EXAMPLES = [Encoded([5, 6, 7, 8], [9, 10, 11]), Encoded([12, 13], [14]), Encoded([15], [16, 17, 18, 19, 20])]
VOCABULARY = 384
"""Of the tiny model."""


@pytest.fixture
def two_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of no more tokens may be held at a time."""
    monkeypatch.setattr("s2d_ray.training.schedule.LOSS_LOGITS", 2 * VOCABULARY)


def llama(folder: Path, attention: str | None = None, dtype: str = "float32") -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, dtype)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).train()


def soft_capped() -> Any:
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=VOCABULARY, final_logit_softcapping=2.0, initializer_range=0.5, **sizes, **heads)
    return Gemma2ForCausalLM(config).train()


def unpacked(model: Any, examples: Sequence[Encoded]) -> Any:
    """By transformers' own loss, the mean over its target, each example in a row of its own."""
    import torch

    losses = []
    for example in examples:
        tokens = torch.tensor([example.prompt + example.target], device=model.device)
        labels = torch.tensor([[-100] * len(example.prompt) + example.target], device=model.device)
        losses.append(model(input_ids=tokens, labels=labels).loss)
    return torch.stack(losses).sum()


def gradients(model: Any) -> dict[str, Any]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(model: Any, tolerance: float = 1e-4) -> None:
    """The loss of the packed examples and its gradient are those of the examples each alone."""
    import torch

    from s2d_ray.training.loss import TargetLoss

    reference = deepcopy(model)
    found, expected = TargetLoss(model)(model, pack(EXAMPLES)), unpacked(reference, EXAMPLES)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    ours, theirs = gradients(model), gradients(reference)
    assert ours.keys() == theirs.keys()
    assert any(gradient.norm() > 0.1 for gradient in theirs.values())
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("default:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize("lora", [None, Lora(rank=2), Lora(rank=2, targets=("lm_head", "q_proj"))])
def test_a_loss_in_parts_and_its_gradient_are_those_of_all_logits(
    lora: Lora | None, two_tokens: None, tiny_model: Path
) -> None:
    from s2d_ray.training.model import adapted

    assert_same(adapted(llama(tiny_model), lora, seed=0))


def test_a_model_that_caps_its_logits_has_the_loss_of_the_capped_ones(two_tokens: None) -> None:
    assert_same(soft_capped())


@pytest.mark.parametrize(
    ("attention", "device", "dtype"),
    [
        ("eager", "cpu", "float32"),
        ("sdpa", "cpu", "float32"),
        pytest.param("sdpa", "cuda", "float32", marks=pytest.mark.gpu),
        pytest.param("flash_attention_2", "cuda", "bfloat16", marks=pytest.mark.gpu),
    ],
)
def test_packed_examples_have_the_loss_that_they_have_alone(
    attention: str, device: str, dtype: str, tiny_model: Path
) -> None:
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        pytest.skip("flash-attn is not installed")
    tolerance = 1e-4 if dtype == "float32" else 0.05
    assert_same(llama(tiny_model, attention, dtype).to(device), tolerance)


def test_a_long_example_moves_the_model_as_much_as_a_short_one(two_tokens: None) -> None:
    """One answers with a token seven times, the other once with another; to the model all places look the same."""
    import torch

    from s2d_ray.training.loss import TargetLoss

    class Forgetful(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, VOCABULARY, bias=False)
            torch.nn.init.zeros_(self.head.weight)

        def get_output_embeddings(self) -> torch.nn.Linear:
            return self.head

        def forward(self, logits_to_keep: torch.Tensor, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(logits=self.head(torch.ones(1, len(logits_to_keep), 4)))

    model = Forgetful()
    loss = TargetLoss(model)(model, pack([Encoded([5, 6], [9] * 7), Encoded([5, 6], [10])]))
    loss.backward()
    assert loss.item() == pytest.approx(2 * log(VOCABULARY))
    moved = model.head.weight.grad
    assert moved is not None and moved[9].norm() > 1
    torch.testing.assert_close(moved[9], moved[10])


@pytest.mark.parametrize("capped", [False, True])
def test_only_a_few_logits_are_held_in_float32_at_a_time(capped: bool, two_tokens: None, tiny_model: Path) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from s2d_ray.training.loss import TargetLoss

    seen: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if (
                isinstance(result, torch.Tensor)
                and result.dtype == torch.float32
                and result.shape[-1:] == (VOCABULARY,)
            ):
                seen.append(result.numel() // VOCABULARY)
            return result

    model = soft_capped().to(torch.bfloat16) if capped else llama(tiny_model, dtype="bfloat16")
    loss = TargetLoss(model)
    loss(model, pack(EXAMPLES)).backward()  # The first time it looks whether the logits are capped.
    with Watch():  # type: ignore[no-untyped-call]
        loss(model, pack(EXAMPLES)).backward()
    assert max(seen) == 2
