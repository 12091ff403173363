"""The shape of a model: what memory and network depend on beside its number of parameters.

Read off the model's configuration, never off its weights; or that of a published model of about the size planned for.
"""

from dataclasses import dataclass, replace
from math import log
from typing import Any

from s2d_ray.data.copies import local_copy
from s2d_ray.data.storage import location
from s2d_ray.errors import UserError
from s2d_ray.models import EMBEDDED
from s2d_ray.recipes.recipe import AnyRecipe

SAME_SIZE = 0.1
"""A difference in the number of parameters up to which a shape is taken as it is."""


@dataclass(frozen=True)
class Shape:
    """Of a decoder with gated MLPs, as Llama, Mistral and Qwen are. Others are taken for one."""

    parameters: float
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    """Width of an attention head."""
    intermediate: int
    """Width of the MLP."""
    vocabulary: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear map of a layer, by the name of its module."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Of one layer, without its norms."""
        return sum(inputs * outputs for inputs, outputs in self.linear.values())

    @property
    def largest_block(self) -> float:
        """Parameters of a layer, or of the embedding where that is larger: what ZeRO-3 gathers at once at least."""
        return max(self.layer_parameters, self.hidden * self.vocabulary)

    def scaled(self, parameters: float) -> "Shape":
        """As deep for its width as this one, with so many parameters."""
        if abs(log(parameters / self.parameters)) < SAME_SIZE:
            return replace(self, parameters=parameters)
        factor = (parameters / self.parameters) ** (1 / 3)
        heads = max(1, round(self.heads * factor))
        return replace(
            self,
            parameters=parameters,
            hidden=max(1, round(self.hidden * factor)),
            layers=max(1, round(self.layers * factor)),
            heads=heads,
            kv_heads=min(heads, self.kv_heads),
            intermediate=max(1, round(self.intermediate * factor)),
        )


PUBLISHED = {
    EMBEDDED: Shape(0.1345e9, 576, 30, 9, 3, 64, 1536, 49152),
    "meta-llama/Llama-3.2-1B": Shape(1.24e9, 2048, 16, 32, 8, 64, 8192, 128256),
    "Qwen/Qwen2.5-Coder-1.5B": Shape(1.544e9, 1536, 28, 12, 2, 128, 8960, 151936),
    "Qwen/Qwen3-1.7B": Shape(1.721e9, 2048, 28, 16, 8, 128, 6144, 151936),
    "meta-llama/Llama-2-7b": Shape(6.74e9, 4096, 32, 32, 32, 128, 11008, 32000),
    "meta-llama/Llama-3.1-8B": Shape(8.03e9, 4096, 32, 32, 8, 128, 14336, 128256),
    "meta-llama/Llama-2-13b": Shape(13.0e9, 5120, 40, 40, 40, 128, 13824, 32000),
    "meta-llama/Llama-2-70b": Shape(68.98e9, 8192, 80, 64, 8, 128, 28672, 32000),
    "meta-llama/Llama-3.1-70B": Shape(70.55e9, 8192, 80, 64, 8, 128, 28672, 128256),
    "meta-llama/Llama-3.1-405B": Shape(405.9e9, 16384, 126, 128, 8, 128, 53248, 128256),
}
"""From their configurations, by the beginning of their names: those of the shipped recipes, and Llama's sizes."""


def shape_of(recipe: AnyRecipe, params_b: float | None) -> Shape:
    """The shape to plan for, without a look at any weights.

    Without `params_b` (billions) it is the recipe's model's own. With it, that of the model or the published one which
    is nearest in size, scaled; the hub is not asked then. Raises UserError where the configuration is not to be had.
    """
    published = next((shape for name, shape in PUBLISHED.items() if recipe.model.startswith(name)), None)
    if params_b is None:
        return published or _own(recipe)
    own = [_own(recipe)] if location(recipe.model).exists() else []
    parameters = params_b * 1e9
    nearest = min([*own, *PUBLISHED.values()], key=lambda shape: abs(log(shape.parameters / parameters)))
    return nearest.scaled(parameters)


def _own(recipe: AnyRecipe) -> Shape:
    """From the model's configuration; of a model elsewhere that file alone is fetched."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(
            _configuration(recipe.model), revision=recipe.model_revision, trust_remote_code=recipe.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the configuration of model {recipe.model} is not to be had ({type(error).__name__}): give --params-b, "
            "its billions of parameters"
        ) from error
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=recipe.trust_remote_code)
    return _shape(config.get_text_config(), model.num_parameters())


def _configuration(name: str) -> str:
    """What transformers reads it from: a file here, or a name on the hub."""
    folder = location(name)
    return str(local_copy(folder / "config.json")) if folder.exists() else name


def _shape(config: Any, parameters: int) -> Shape:
    heads = config.num_attention_heads
    return Shape(
        parameters,
        config.hidden_size,
        config.num_hidden_layers,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        config.vocab_size,
    )
