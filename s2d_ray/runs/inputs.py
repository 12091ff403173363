"""What the output of a stage depends on: its inputs, by whose fingerprint it is known again."""

from collections.abc import Mapping, Sequence
from typing import Any

from s2d_ray.curation.rule import Rule
from s2d_ray.data.artifacts import Json
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import AnyRecipe, Recipe
from s2d_ray.recipes.sections import Lora, Train
from s2d_ray.recipes.strict import Named

PLACEMENT = {
    "device",
    "workers",
    "zero_stage",
    "offload",
    "micro_batch_size",
    "micro_batch_tokens",
    "gradient_checkpointing",
    "attention",
    "checkpoint_steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "max_failures",
}
"""Training settings that change where and how safely it runs, not what comes out."""
LATER = {"optimizer", "extra", "targets", "quantize", "internalise"}
"""Training settings that came when results had been made already: an input only where they are not the default."""


def engine_inputs(recipe: AnyRecipe) -> Json:
    """What of the engine changes the results."""
    engine = recipe.engine
    return {
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "script": engine.script if engine.kind == "scripted" else None,
        **_chat_inputs(recipe),
    }


def candidates_inputs(recipe: Recipe, method: Named, base: Model, corpus: str) -> Json:
    """Of a method's answers to the corpus with that digest."""
    settings = recipe.generate
    return {
        "model": {"name": base.name, "identity": base.identity},
        "method": method.model_dump(mode="json"),
        "samples": settings.samples,
        "sampling": settings.sampling.model_dump(mode="json"),
        "seed": recipe.seed,
        "corpus": corpus,
        **engine_inputs(recipe),
    }


def distilled_inputs(names: Sequence[str], rules: Sequence[Rule], task: Json, candidates: str) -> Json:
    """Of what rules, named as the recipe names them, chose among the candidates with that fingerprint."""
    named = zip(names, rules, strict=True)
    return {
        "candidates": candidates,
        "rules": [{"name": name, **rule.model_dump(mode="json")} for name, rule in named],
        "task": task,
    }


def model_inputs(recipe: AnyRecipe, base: Model, distilled: Mapping[str, str]) -> dict[str, Any]:
    """Of a model trained on the distilled set of each part, given by its fingerprint."""
    return {
        "model": {"name": base.name, "identity": base.identity},
        "train": _train_inputs(recipe.train),
        **_chat_inputs(recipe),
        # Models of an earlier version were trained on the mean over all target tokens.
        "loss": "mean over examples",
        "seed": recipe.seed,
        "distilled": distilled[""] if "" in distilled else dict(distilled),
    }


def evaluation_inputs(
    recipe: Recipe, base: Model, methods: Mapping[str, Named], models: Mapping[str, str], prompts: str
) -> Json:
    """Of the arms' answers to the held-out prompts with that digest; `models` are the trained arms' fingerprints."""
    settings = recipe.evaluate
    return {
        "base": base.identity,
        "methods": {arm: method.model_dump(mode="json") for arm, method in methods.items()},
        "models": dict(models),
        "samples": settings.samples,
        "sampling": settings.sampling.model_dump(mode="json"),
        "seed": recipe.seed,
        "prompts": prompts,
        **engine_inputs(recipe),
        **({"logprobs": True} if recipe.answering_engine.logprobs else {}),
    }


def _chat_inputs(recipe: AnyRecipe) -> Json:
    """Results of before a recipe could say anything of its chats are those of one that says nothing."""
    said = recipe.chat.model_dump(mode="json", exclude_defaults=True)
    return {"chat": said} if said else {}


def _train_inputs(train: Train) -> Json:
    inputs = _but_later_defaults(train, PLACEMENT)
    return inputs | ({} if train.lora is None else {"lora": _but_later_defaults(train.lora)})


def _but_later_defaults(section: Train | Lora, exclude: set[str] | None = None) -> dict[str, Any]:
    inputs, defaults = section.model_dump(mode="json", exclude=exclude), type(section)().model_dump(mode="json")
    return {key: value for key, value in inputs.items() if key not in LATER or value != defaults[key]}
