"""The section of a recipe that says which arms answer the held-out prompts, and how their answers are compared."""

from typing import Any, Self

from pydantic import Field, model_validator

from s2d_ray.data.storage import NameOrLocation
from s2d_ray.recipes.general import General
from s2d_ray.recipes.sections import EveryCall, FurtherTarget, Sampling
from s2d_ray.recipes.strict import Named, Strict


class Judging(Strict):
    """A model that says which of two answers is better, where nothing says what is right; asked in both orders."""

    method: Named = Named(name="direct")
    """For pairwise judging: `direct` (one call: A, B or tie), `cot`, `bsm`, or your own."""
    model: NameOrLocation = "base"
    """`base` is the base model of the run's first round; else a folder or a name on the hub."""
    sampling: EveryCall = Sampling(temperature=0.0, top_p=1.0, max_tokens=256)
    """How the judge samples."""


class Evaluate(Strict):
    """Every arm on the held-out prompts."""

    controls: bool = True
    """Also train and evaluate the two controls: System 1's own votes, and System 2 without curation."""
    targets: tuple[FurtherTarget, ...] = ()
    """Also train and evaluate students on other targets than the recipe's own (`curate.target`, `train.internalise`),
    from the same answers of System 2 and in as many steps; `internalised` is `shortest` with its trace taken away.
    The report then draws accuracy against generated tokens, and says which to ship. All are asked plainly, with
    `sampling.max_tokens` for their reasoning too."""
    method: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Options that evaluation adds to the recipe's method, such as BSM's `both_orders: true`, beside which the same
    judge in one order is an arm of its own."""
    also: tuple[Named, ...] = ()
    """Further System 2 methods to evaluate on the base model, each as an arm of its own. Nothing is distilled
    from them."""
    samples: int = Field(1, ge=1)
    """Answers per prompt and arm; above 1 the majority is scored and all tokens count. The majorities of the
    first 1, 5 and 10 are reported beside it."""
    sampling: EveryCall = Sampling(temperature=0.0, top_p=1.0)
    """One for all arms. Several samples need a temperature above 0: greedy ones are all the same."""
    max_failed_share: float = Field(0.1, ge=0, le=1)
    """The stage stops with an error when more than this share of the prompts failed for one arm. Those that failed for
    any arm of the verdict are left out of it, for all of them."""
    limit: int | None = Field(None, ge=1)
    """Held-out prompts per subset at most; unset uses all."""
    margin: float = Field(0.05, ge=0, le=1)
    """How far distilled System 1 may fall below System 2 and still count as not worse (a share)."""
    decides: tuple[str, ...] | None = None
    """Subsets on which the verdict is decided, such as `[biased]`; the others must not get worse by more than
    `margin`. Unset: those that the task names; where it names none, or for `[]`, all prompts decide."""
    seeds: int = Field(1, ge=1)
    """Trainings of each arm, every one with an order and adapters of its own. The first is the model that is served
    and that the verdict is about; the report shows how far the others are from it."""
    examples: int = Field(10, ge=0)
    """Prompts shown in the report with what each arm answered."""
    general: General | None = General()
    """What was lost on things that were not trained; `null` does not look."""
    benchmarks: tuple[str, ...] = ()
    """Tasks of the package lm-eval, or YAML files of your own ones, measured before and after too. A fall by more than
    `margin`, by its whole 95% interval, counts as lost."""
    benchmark_limit: int | None = Field(None, ge=1)
    """Documents of each benchmark at most; unset uses all."""
    judge: Judging | None = None
    """Compares the arms' answers as texts. Where no held-out prompt has a reference it decides what is as good as
    System 2; unset, only an answer that equals System 2's is."""

    @model_validator(mode="after")
    def _tells_arms_apart(self) -> Self:
        if "name" in self.method:
            raise ValueError("method has the options of the recipe's method only; also names further methods")
        names = [method.name for method in self.also]
        if len(set(names)) < len(names):
            raise ValueError("also names a method twice: arms are told apart by their method's name")
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets names one twice")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same: set sampling.temperature")
        return self
