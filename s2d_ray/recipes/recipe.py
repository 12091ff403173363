"""A recipe: everything that one distillation needs to know, as strict models.

Every field says its meaning and unit. Sections that belong to a task, a method or a rule are read by that task,
method or rule; here they are a name and its options.
"""

from collections.abc import Mapping
from operator import not_
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from s2d_ray.data.storage import NameOrLocation
from s2d_ray.errors import UserError
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.chat import Chat
from s2d_ray.recipes.evaluate import Evaluate
from s2d_ray.recipes.sections import Curate, Engine, FurtherTarget, Generate, Train
from s2d_ray.recipes.serve import Serve
from s2d_ray.recipes.strict import Named, Strict, is_none, parse

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Of a recipe or a part: it becomes a folder's name."""


class Settings(Strict):
    """What every run needs to know, whatever it distils."""

    name: str = Field(pattern=NAME)
    """Names the results folder."""
    description: str = ""
    model: NameOrLocation
    """`smollm2-135m-instruct` (embedded), a Hugging Face folder here or at `s3://…`, `gs://…` or `az://…`, or a name on
    the hub."""
    model_revision: str | None = None
    """Branch, tag or commit on the hub; unset takes the default branch. A run keeps the commit that it began with."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings. Only for sources that you trust."""
    chat_template: str | None = Field(None, exclude_if=is_none)
    """A chat template in place of the model's own: a `.jinja` file, beside the recipe's, or its text."""
    template: dict[str, Any] = Field(default_factory=dict[str, Any], exclude_if=not_)
    """What the chat template is told in every call, such as `enable_thinking: false`; a method may say otherwise for
    its own calls. Where the template has a switch for thinking, and nothing is said of it, it is off."""
    reasoning: str | None = Field(None, exclude_if=is_none)
    """vLLM's reasoning parser that tells a thought from the answer, such as `deepseek_r1`; unset: chosen by the marks
    that the chat template has; `none` for none."""
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    """Unlabelled prompts at most, and held-out prompts per subset; unset uses all. In a mixture, of each part."""
    rounds: int = Field(1, ge=1)
    """Distillations at most, one on top of the other: the distilled model of a round is the base model of the
    next, in `round-2/`, `round-3/`, … of the results folder. A round that gains nothing is the last: one whose
    distilled model is not significantly better than its base, on the prompts of any part that are held out for that
    alone (the task's `valid_share`, `valid_items` or `valid_cities`)."""
    engine: Engine = Engine()
    generate: Generate = Generate()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()

    @property
    def chat(self) -> Chat:
        """How chats are put to the model."""
        return Chat(template=self.chat_template, arguments=self.template, reasoning=self.reasoning)

    @property
    def answering_engine(self) -> Engine:
        """The engine of evaluation and serving: it tells log-probabilities where the cascade needs them."""
        cascade = self.serve.cascade
        needed = cascade is not None and cascade.confidence == "logprob"
        return self.engine.model_copy(update={"logprobs": True}) if needed else self.engine

    @model_validator(mode="after")
    def _calibrates(self) -> Self:
        cascade, drawn = self.serve.cascade, self.evaluate.samples
        if cascade is not None and cascade.confidence == "votes" and cascade.samples != drawn:
            raise ValueError(
                f"serve.cascade votes over {cascade.samples} samples and is calibrated at evaluation, which draws "
                f"{drawn}: set evaluate.samples to {cascade.samples}"
            )
        return self


class Recipe(Settings):
    """One task and one method, from unlabelled prompts to the report."""

    task: Named
    method: Named
    answer_format: AnswerFormat | None = Field(None, exclude_if=is_none)
    """The form of every answer, in generation, evaluation and serving: `json_schema: {...}`, `choice: [...]` or
    `regex: ...`. Votes over JSON compare field by field: the task `prompts` has `normalisation: json` then, unless it
    says otherwise."""

    @model_validator(mode="after")
    def _answers_have_the_form(self) -> Self:
        """Here for every stage: what samples answers is told of their form."""
        for section in (self.generate, self.evaluate):
            if section.sampling.answer_format not in (None, self.answer_format):
                raise ValueError("answer_format belongs to the recipe, not to a sampling: it is one for all stages")
        if self.answer_format is not None:
            told = {"answer_format": self.answer_format}
            for name in ("generate", "evaluate"):
                section = getattr(self, name)
                held = section.model_copy(update={"sampling": section.sampling.model_copy(update=told)})
                object.__setattr__(self, name, held)  # The model is frozen for all but its own validators.
        return self

    @model_validator(mode="after")
    def _votes_by_field(self) -> Self:
        by_words = self.task.name == "prompts" and "normalisation" not in self.task.options
        if by_words and self.answer_format is not None and self.answer_format.json_schema is not None:
            task = Named(name=self.task.name, **self.task.options, normalisation="json")
            object.__setattr__(self, "task", task)
        return self

    def recipes(self) -> dict[str, "Recipe"]:
        """Part → its recipe: the only part is the recipe itself, without a name."""
        return {"": self}

    def single(self) -> "Recipe":
        """The recipe itself, as it has one task."""
        return self

    @property
    def target(self) -> FurtherTarget:
        """What the student is trained on."""
        return self.curate.target if self.train.internalise is None else "internalised"

    @model_validator(mode="after")
    def _trains_apart(self) -> Self:
        if self.train.internalise is not None and self.curate.target == "answer":
            raise ValueError("train.internalise has no trace to take away: set curate.target to shortest or shortened")
        if self.target in self.evaluate.targets:
            raise ValueError(f"evaluate.targets names {self.target}, on which the student is trained anyway")
        written = [target for target in (self.target, *self.evaluate.targets) if target in ("shortest", "shortened")]
        if written and self.answer_format is not None:
            raise ValueError(f"answer_format leaves no room for what the target {written[0]} trains before the answer")
        return self


class MixturePart(Strict):
    """A task and a method of a mixture, and the settings in which it differs from the mixture."""

    task: Named
    method: Named
    limit: int | None = Field(None, ge=1)
    """As the mixture's `limit`, for this part; the smaller of the two counts."""
    max_examples: int | None = Field(None, ge=1)
    """Examples of this part in the training at most, the first by id; unset follows `train.max_examples`."""
    answer_format: AnswerFormat | None = Field(None, exclude_if=is_none)
    """The form of this part's answers, as in a recipe of one task."""
    generate: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keys of `generate` that are this part's own; the others are the mixture's."""
    curate: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keys of `curate` that are this part's own."""
    evaluate: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keys of `evaluate` that are this part's own; those about the model that all parts share excepted: `controls`,
    `targets`, `seeds`, `general`, `benchmarks` and `benchmark_limit`."""


class Mixture(Settings):
    """Several tasks, each with its method, distilled into one model in one training."""

    parts: dict[Annotated[str, StringConstraints(pattern=NAME)], MixturePart] = Field(min_length=1)
    """By name, which names the part's folder: `parts/<name>/` in the results folder."""

    def recipes(self) -> dict[str, Recipe]:
        """Part → its recipe, as if it stood alone. Raises UserError where a part's own settings are not valid."""
        return {name: self._recipe(name, part) for name, part in self.parts.items()}

    def single(self) -> Recipe:
        """Raises UserError: it has several tasks."""
        raise UserError(f"{self.name} is a mixture of {', '.join(self.parts)}: name a recipe of one task here")

    def _recipe(self, name: str, part: MixturePart) -> Recipe:
        own = part.model_dump(exclude_unset=True, exclude={"limit", "max_examples"})
        own |= {"name": f"{self.name}-{name}", "limit": smaller(self.limit, part.limit)}
        if part.max_examples is not None:
            own["train"] = {"max_examples": part.max_examples}
        return parse(Recipe, merged(self.model_dump(exclude={"parts"}), own), where=f"part {name}")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        try:
            recipes = self.recipes().values()
        except UserError as error:
            raise ValueError(str(error)) from error
        for key in ("controls", "targets", "seeds", "general", "benchmarks", "benchmark_limit"):
            if len({getattr(recipe.evaluate, key) for recipe in recipes}) > 1:
                raise ValueError(f"evaluate.{key} must not differ between parts: it is about one model of all parts")
        return self


AnyRecipe = Recipe | Mixture


def trainings_of(recipe: AnyRecipe) -> Evaluate:
    """The section that says which arms are trained and how often, which all parts of a mixture have alike."""
    return next(iter(recipe.recipes().values())).evaluate


def smaller(*limits: int | None) -> int | None:
    """The smallest of the limits that are set; None where none is."""
    return min((limit for limit in limits if limit is not None), default=None)


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`shared` with what `own` says instead, section by section."""
    sections = [key for key in own if isinstance(own[key], dict) and isinstance(shared.get(key), dict)]
    return {**shared, **own, **{key: merged(shared[key], own[key]) for key in sections}}
