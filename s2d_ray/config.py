"""A recipe: everything that one distillation needs to know, as strict models read from YAML.

Every field says its meaning and unit. Unknown keys are errors that name the nearest known key, and all
checks run before an engine starts. Sections that belong to a task, a method or a rule are read by that
task, method or rule; here they are a name and its options.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from s2d_ray.errors import UserError
from s2d_ray.storage import NameOrLocation

M = TypeVar("M", bound=BaseModel)
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Of a recipe or a part: it becomes a folder's name."""


class Strict(BaseModel):
    """Base of all configuration: frozen, documented under each field, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Named(BaseModel):
    """A choice by name with the options of whatever bears that name, which checks them."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    name: str
    """A shipped name, or `my_module:my_object` for one of your own."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


NamedSection = Annotated[Named, BeforeValidator(_named)]


class Sampling(Strict):
    """How the model samples. The defaults are the paper's for System 2 Attention."""

    temperature: float = Field(0.6, ge=0)
    """0 takes the likeliest token each time."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability mass kept. Below 1 the CPU engine sorts the vocabulary at each token: slow."""
    top_k: int = Field(0, ge=0)
    """Likeliest tokens kept; 0 keeps all."""
    max_tokens: int = Field(64, ge=1)
    """Tokens at most in one call; a method may ask for fewer in a step."""
    stop: tuple[str, ...] = ()
    """Texts that end a call when generated; they are not part of the answer."""


class Engine(Strict):
    """The inference engine and its share of the machine. Placement only: results do not depend on it."""

    kind: Literal["vllm", "scripted"] = "vllm"
    """`vllm` (its CPU build where there is no GPU), or `scripted` for trials without a model."""
    script: str = "s2d_ray.inference.scripted:echo"
    """For `scripted`: `module:function` of (messages, random generator), returning the model's text."""
    token_seconds: float = Field(0.0, ge=0)
    """For `scripted`: seconds that each generated token takes, `max_sequences` at once."""
    min_engines: int = Field(1, ge=1)
    """Engine actors that a stage starts with and keeps. Before and after a stage, and where nothing is left to
    do, there are none: what they held is free for training."""
    max_engines: int = Field(1, ge=1)
    """Engine actors at most; Ray Data scales between the two with the backlog."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that each layer of the model is split over."""
    pipeline_parallel: int = Field(1, ge=1)
    """Groups of layers on GPUs of their own: an engine takes `tensor_parallel` times as many GPUs, all of one node."""
    cpus: int | None = Field(None, ge=1)
    """CPU cores of one engine where there is no GPU, set aside for it by Ray. Unset: one, so that engines are
    placed whatever else runs, and a sole engine (`max_engines: 1`) computes with all cores of its machine."""
    call_timeout: float = Field(600.0, gt=0)
    """Seconds that one call may take, waiting included; its row fails then. Where the engine gave no token to any
    call in that time it counts as dead, and another is started."""
    max_model_len: int = Field(1024, ge=16)
    """Tokens of prompt and answer together at most; longer prompts fail as rows."""
    max_sequences: int = Field(128, ge=1)
    """Sequences that one engine decodes at once."""
    logprobs: bool = False
    """Tell the mean log-probability of each call's tokens. A cascade that needs it turns it on by itself."""
    seeded: bool = True
    """Give every request a seed of its own, so that its sample does not depend on how requests are batched
    (up to rounding in batched arithmetic). Costs about a quarter of the CPU engine's speed."""
    kv_cache_gib: float = Field(1.0, gt=0)
    """KV cache in GiB on CPU. On a GPU `gpu_memory` decides."""
    gpu_memory: float = Field(0.85, gt=0, le=1)
    """Share of a GPU's memory that the engine may take."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of weights and activations. `auto` is chosen when the run begins, and stays: bfloat16 on a GPU
    that has it, else float16; on a CPU the faster of bfloat16 and float32, as timed where the engines run."""
    compile: bool | None = None
    """torch.compile the model: slower to start, faster to decode. Unset: on GPU yes, on CPU no."""
    extra: dict[str, Any] = {}
    """Further vLLM engine arguments, passed as they are."""

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor_parallel * self.pipeline_parallel

    def resources(self, gpus: bool) -> dict[str, Any]:
        """What Ray sets aside for one engine, all of it on one node, on a cluster with or without GPUs."""
        if self.kind == "vllm" and gpus:
            return {"num_cpus": 1, "num_gpus": self.gpus}
        return {"num_cpus": self.cpus or 1}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_engines > self.max_engines:
            raise ValueError(f"min_engines {self.min_engines} is more than max_engines {self.max_engines}")
        return self


class Generate(Strict):
    """System 2 over the unlabelled prompts."""

    samples: int = Field(4, ge=1)
    """Runs of the method per prompt."""
    sampling: Sampling = Sampling()
    commit_rows: int = Field(32, ge=1)
    """Prompts per output part. A crash costs what the parts at work hold, per engine at most four times
    `concurrent_rows`."""
    concurrent_rows: int | None = Field(None, ge=1)
    """Prompts in flight per engine at most; unset: twice `engine.max_sequences`. There are fewer where fewer keep the
    engine full, by what it reports as running and waiting."""
    max_failed_share: float = Field(0.1, ge=0, le=1)
    """The stage stops with an error when more than this share of the prompts failed."""


class Curate(Strict):
    """Which candidates become targets, decided without labels."""

    rules: tuple[NamedSection, ...] = Field((Named(name="majority"),), min_length=1)
    """Applied in order; the first to reject decides."""


class Lora(Strict):
    """Low-rank adapters on the attention and MLP projections."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


def _worker_range(value: object) -> object:
    match value if isinstance(value, list | tuple) else [value, value]:
        case [int(least), int(most)] if 1 <= least <= most:
            return value if isinstance(value, int) else (least, most)
    raise ValueError("a number of workers from 1, or [min, max]")


class Train(Strict):
    """Fine-tuning of the base model on the curated pairs, loss on the answer only."""

    workers: Annotated[int | tuple[int, int], BeforeValidator(_worker_range)] = 1
    """Training processes; one GPU each where there are GPUs. `[min, max]` is elastic: as many as the cluster has room
    for, fewer when a node is lost and more when one comes, each time from the last checkpoint. The batches stay the
    same."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: what is sharded over the workers (1 optimizer, 2 and gradients, 3 and parameters)."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What is kept in the CPU's memory to spare the GPU's: the optimizer's state (with ZeRO), or the parameters too
    (with ZeRO-3). Slower."""
    lora: Lora | None = Lora()
    """Adapters; `null` fine-tunes every parameter."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak, reached after the warm-up."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up: down to zero in a straight line or along a cosine, or not."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    epochs: float = Field(2.0, gt=0)
    """Passes over the distilled set."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps at most, so that arms with more examples train no longer; unset follows `epochs`."""
    max_examples: int | None = Field(None, ge=1)
    """Examples at most, the first by id; unset uses all. In a mixture, of each part."""
    batch_size: int = Field(16, ge=1)
    """Examples per optimizer step over all workers, however many there are."""
    micro_batch_size: int = Field(8, ge=1)
    """Examples per worker and forward pass at most, packed into one row without padding; fewer take less memory.
    Gradients are accumulated until `batch_size` is reached."""
    max_length: int = Field(512, ge=8)
    """Tokens of prompt and target; longer examples are left out and counted."""
    gradient_clipping: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    checkpoint_steps: int = Field(10, ge=1)
    """Optimizer steps between checkpoints: what a crash can cost."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints kept during the training, the latest ones; none is left when it is finished."""
    max_failures: int = Field(3, ge=0)
    """Losses of a worker or its node that are survived by going on from the last checkpoint. Preemptions that Ray is
    told of do not count."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the frozen or sharded weights; optimizer state is float32. `auto` is the engine's."""

    @property
    def max_workers(self) -> int:
        """Workers at most."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_size < self.max_workers:
            raise ValueError(f"batch_size {self.batch_size} has no example for each of {self.max_workers} workers")
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload optimizer needs zero_stage 1, 2 or 3")
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError("offload parameters needs zero_stage 3")
        return self


class Evaluate(Strict):
    """Every arm on the held-out prompts."""

    controls: bool = True
    """Also train and evaluate the two controls: System 1's own votes, and System 2 without curation."""
    method: dict[str, Any] = {}
    """Options that evaluation adds to the recipe's method, such as BSM's `both_orders: true`."""
    also: tuple[NamedSection, ...] = ()
    """Further System 2 methods to evaluate on the base model, each as an arm of its own. Nothing is distilled
    from them."""
    samples: int = Field(1, ge=1)
    """Answers per prompt and arm; above 1 the majority is scored and all tokens count. The majorities of the
    first 1, 5 and 10 are reported beside it."""
    sampling: Sampling = Sampling(temperature=0.0, top_p=1.0)
    """One for all arms. Several samples need a temperature above 0: greedy ones are all the same."""
    limit: int | None = Field(None, ge=1)
    """Held-out prompts per subset at most; unset uses all."""
    margin: float = Field(0.05, ge=0, le=1)
    """How far distilled System 1 may fall below System 2 and still count as not worse (a share)."""
    examples: int = Field(10, ge=0)
    """Prompts shown in the report with what each arm answered."""

    @model_validator(mode="after")
    def _tells_arms_apart(self) -> Self:
        if "name" in self.method:
            raise ValueError("method has the options of the recipe's method only; also names further methods")
        names = [method.name for method in self.also]
        if len(set(names)) < len(names):
            raise ValueError("also names a method twice: arms are told apart by their method's name")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same: set sampling.temperature")
        return self


class Weights(Strict):
    """Shares of the experiment's users by arm. System 2 answers the rest."""

    system1: float = Field(0.5, ge=0, le=1)
    """Answered by the distilled System 1."""
    base: float = Field(0.0, ge=0, le=1)
    """Answered by the model as it was before, asked plainly."""

    @property
    def system2(self) -> float:
        """Answered by System 2."""
        return round(max(0.0, 1 - self.system1 - self.base), 12)

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if self.system1 + self.base > 1 + 1e-9:
            raise ValueError(f"system1 {self.system1:g} and base {self.base:g} add up to more than 1")
        return self


class RampStep(Strict):
    """A while in which System 1 gets less than its weight."""

    system1: float = Field(ge=0, le=1)
    """Share of the users that System 1 answers meanwhile; those that it lacks go to System 2."""
    hours: float = Field(gt=0)
    """How long, in hours."""


class Guardrails(Strict):
    """Limits that no arm may pass in the experiment: past one, every user goes back to System 2 at once."""

    error_rate: float | None = Field(0.05, gt=0, lt=0.5)
    """Share of an arm's requests that may fail; `null` does not look."""
    p95_seconds: float | None = Field(30.0, gt=0)
    """Seconds that at most one in twenty of an arm's requests may take longer than; `null` does not look."""


class Cascade(Strict):
    """System 1 answers, and what it is not confident about goes on to System 2."""

    target: float = Field(0.95, gt=0, lt=1)
    """Share of all answers that are to be System 2's or agree with it; sets the threshold, at evaluation."""
    confidence: Literal["logprob", "votes"] = "logprob"
    """Mean log-probability of System 1's tokens, or the share of its `samples` that give the same answer."""
    samples: int = Field(3, ge=2)
    """Answers of System 1 to each request, for `votes`."""


class ServedArm(Strict):
    """What one arm may take. Past its limits a request is refused with the time to try again."""

    concurrent_requests: int = Field(64, ge=1)
    """Requests that one copy of its model answers at once."""
    queued_requests: int = Field(128, ge=0)
    """Requests that wait at most; further ones are refused."""
    deadline_seconds: float = Field(60.0, gt=0)
    """Seconds until a request is given up, waiting included."""


class ScaledArm(ServedArm):
    """An arm with copies of its model. The base model is System 2's."""

    min_replicas: int = Field(1, ge=0)
    """Copies of the model kept when nobody asks."""
    max_replicas: int = Field(1, ge=1)
    """Copies at most; Ray Serve scales between the two with the requests in flight."""
    scale_down_seconds: float = Field(600.0, ge=0)
    """For which fewer copies must have been enough before one is taken away."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


class Prices(Strict):
    """What tokens cost, in a currency of your own."""

    prompt: float = Field(ge=0)
    """For a million prompt tokens."""
    completion: float = Field(ge=0)
    """For a million generated tokens."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is the machine's own, which no other machine reaches."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


EnvironmentVariable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Serve(Strict):
    """A finished run behind one OpenAI-compatible address, and the experiment of System 1 against System 2."""

    host: str = "127.0.0.1"
    """Address to listen at. One that other machines reach needs `admin_token_env`."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen at."""
    api_keys_env: EnvironmentVariable | None = None
    """Environment variable with the keys for asking the model, separated by commas; unset lets everyone ask."""
    admin_token_env: EnvironmentVariable | None = None
    """Environment variable with the token for changing the experiment; unset lets everyone on this machine."""
    weights: Weights = Weights()
    """The experiment's arms. Changed while it runs, the change stays until this entry changes."""
    ramp: tuple[RampStep, ...] = ()
    """Smaller shares for System 1 first, in order, before `weights` hold."""
    salt: str = "s2d"
    """Users are assigned by a hash of this and their name; another salt is another experiment."""
    margin: float = Field(0.05, gt=0, lt=1)
    """How much lower System 1's mean rating (0 to 1) may be and still replace System 2."""
    guardrails: Guardrails = Guardrails()
    shadow_share: float = Field(0.0, ge=0, le=1)
    """Share of requests that the other arm is asked too, in the background, to compare."""
    shadow_concurrent: int = Field(4, ge=1)
    """Such requests in the background at most; more are left out."""
    shadow_judge: Named | None = None
    """Method by which the base model judges the pairs that the task finds different: `direct`, `cot` or `bsm`. A pair
    agrees where System 1's answer is not worse in both orders. Unset: only answers that are the same agree."""
    cascade: Cascade | None = None
    """Unset: System 1 answers all that it is asked."""
    system1: ScaledArm = ScaledArm()
    system2: ScaledArm = ScaledArm(concurrent_requests=32)
    base: ServedArm = ServedArm()
    shared_engine: bool | None = None
    """One engine for both models: the base model, and its weights with the adapter for System 1 (vLLM's LoRA).
    Unset: where there is a GPU and the training left an adapter. On CPU an adapter takes five times as long."""
    gateways: int = Field(1, ge=1)
    """Copies of what takes in the requests, each with its share of every arm's limits."""
    max_body_kib: int = Field(256, ge=1)
    """Size of a request at most, in KiB."""
    max_tokens: int = Field(512, ge=1)
    """Generated tokens that a request may ask for at most, in one call."""
    store_text: bool = False
    """Keep prompts and answers beside the figures of each request."""
    flush_seconds: float = Field(300.0, gt=0)
    """Seconds between two Parquet parts of the stored events. A process that is killed loses none before, and the page
    shows all at once. With results in object storage the page shows those of other machines from then on, and a
    machine that is lost loses what it had not yet put there."""
    prices: Prices | None = None
    """Unset: no cost is worked out."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches `host`."""
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.loopback and self.admin_token_env is None:
            raise ValueError(
                f"host {self.host} is reached by other machines: set admin_token_env to the name of an environment "
                "variable that holds a token"
            )
        return self

    @model_validator(mode="after")
    def _rising(self) -> Self:
        shares = [*(step.system1 for step in self.ramp), self.weights.system1]
        if shares != sorted(shares):
            way = " → ".join(f"{share:g}" for share in shares)
            raise ValueError(f"the ramp must rise step by step up to weights.system1, not go {way}")
        return self


class Settings(Strict):
    """What every run needs to know, whatever it distils."""

    name: str = Field(pattern=NAME)
    """Names the results folder."""
    description: str = ""
    model: NameOrLocation
    """`smollm2-135m-instruct` (embedded), a Hugging Face folder here or at `s3://…` or `gs://…`, or a hub name."""
    model_revision: str | None = None
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings. Only for sources that you trust."""
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    """Unlabelled prompts at most, and held-out prompts per subset; unset uses all. In a mixture, of each part."""
    rounds: int = Field(1, ge=1)
    """Distillations at most, one on top of the other: the distilled model of a round is the base model of the
    next, in `round-2/`, `round-3/`, … of the results folder. A round that gains nothing is the last: one whose
    distilled model is not significantly better than its base, over all held-out prompts of any part."""
    engine: Engine = Engine()
    generate: Generate = Generate()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()

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

    task: NamedSection
    method: NamedSection

    def recipes(self) -> dict[str, "Recipe"]:
        """Part → its recipe: the only part is the recipe itself, without a name."""
        return {"": self}


class MixturePart(Strict):
    """A task and a method of a mixture, and the settings in which it differs from the mixture."""

    task: NamedSection
    method: NamedSection
    limit: int | None = Field(None, ge=1)
    """As the mixture's `limit`, for this part; the smaller of the two counts."""
    max_examples: int | None = Field(None, ge=1)
    """Examples of this part in the training at most, the first by id; unset follows `train.max_examples`."""
    generate: dict[str, Any] = {}
    """Keys of `generate` that are this part's own; the others are the mixture's."""
    curate: dict[str, Any] = {}
    """Keys of `curate` that are this part's own."""
    evaluate: dict[str, Any] = {}
    """Keys of `evaluate` that are this part's own, `controls` excepted."""


class Mixture(Settings):
    """Several tasks, each with its method, distilled into one model in one training."""

    parts: dict[Annotated[str, StringConstraints(pattern=NAME)], MixturePart] = Field(min_length=1)
    """By name, which names the part's folder: `parts/<name>/` in the results folder."""

    def recipes(self) -> dict[str, Recipe]:
        """Part → its recipe, as if it stood alone. Raises UserError where a part's own settings are not valid."""
        return {name: self._recipe(name, part) for name, part in self.parts.items()}

    def _recipe(self, name: str, part: MixturePart) -> Recipe:
        own = part.model_dump(exclude_unset=True, exclude={"limit", "max_examples"})
        own |= {"name": f"{self.name}-{name}", "limit": smaller(self.limit, part.limit)}
        if part.max_examples is not None:
            own["train"] = {"max_examples": part.max_examples}
        return parse(Recipe, _merged(self.model_dump(exclude={"parts"}), own), where=f"part {name}")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        try:
            recipes = self.recipes().values()
        except UserError as error:
            raise ValueError(str(error)) from error
        if len({recipe.evaluate.controls for recipe in recipes}) > 1:
            raise ValueError("evaluate.controls must not differ between parts: a control is one model of all parts too")
        return self


AnyRecipe = Recipe | Mixture


def smaller(*limits: int | None) -> int | None:
    """The smallest of the limits that are set; None where none is."""
    return min((limit for limit in limits if limit is not None), default=None)


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`shared` with what `own` says instead, section by section."""
    sections = [key for key in own if isinstance(own[key], dict) and isinstance(shared.get(key), dict)]
    return {**shared, **own, **{key: _merged(shared[key], own[key]) for key in sections}}


def shipped_recipes() -> dict[str, str]:
    """Name → one-line description of every recipe in the package."""
    folder = resources.files("s2d_ray.recipes")
    names = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {name: str(_read_yaml(folder.joinpath(f"{name}.yaml").read_text(), name)["description"]) for name in names}


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """As `load_any`, where a single task is needed: a mixture is refused."""
    recipe = load_any(name_or_path, overrides)
    if isinstance(recipe, Mixture):
        raise UserError(f"{name_or_path} is a mixture of {', '.join(recipe.parts)}: name a recipe of one task here")
    return recipe


def load_any(name_or_path: str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """The recipe or mixture of a shipped name or YAML file, with `dotted.key=value` overrides applied.

    Raises UserError where there is no such recipe, it is no YAML mapping, a key is unknown (the nearest
    known one is named), or a value is out of range.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"no recipe file {path}; shipped recipes: {', '.join(shipped_recipes())}")
        raw = _read_yaml(_text(path), str(path))
    else:
        if name_or_path not in shipped_recipes():
            near = get_close_matches(name_or_path, shipped_recipes(), 1)
            hint = f"did you mean {near[0]}?" if near else "`s2d recipes` lists them; a file must end in .yaml"
            raise UserError(f"no recipe named {name_or_path}: {hint}")
        raw = _read_yaml(resources.files("s2d_ray.recipes").joinpath(f"{name_or_path}.yaml").read_text(), name_or_path)
    for override in overrides:
        _apply_override(raw, override)
    where = f"recipe {name_or_path}"
    return parse(Mixture, raw, where) if "parts" in raw else parse(Recipe, raw, where)


def parse(model: type[M], raw: Mapping[str, Any], where: str) -> M:
    """`raw` checked against `model`. Raises UserError, one line, naming the field and what is wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(model, error)}") from error


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, item["loc"][:-1])
            near = get_close_matches(str(item["loc"][-1]), known, 1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            problems.append(f"unknown key {key}: {hint}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{key}: {message}" if key else message)
    return "; ".join(problems)


def _known_keys(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    for part in loc:
        inner = model.model_fields.get(str(part))
        candidates = [] if inner is None else [inner.annotation, *getattr(inner.annotation, "__args__", ())]
        for annotation in candidates:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
                break
    return list(model.model_fields)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it in that encoding ({error.reason})") from error


def _read_yaml(text: str, where: str) -> dict[str, Any]:
    raw = _yaml_value(text, where)
    if not isinstance(raw, dict):
        raise UserError(f"{where} is not a YAML mapping of recipe keys")
    return raw


def _yaml_value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-01
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} is not of the form key=value, such as train.epochs=1")
    *parents, last = key.split(".")
    section: Any = raw
    for parent in parents:
        value = section.get(parent)
        if value is None or (isinstance(value, str) and parent in ("task", "method")):
            section[parent] = {} if value is None else {"name": value}
        elif not isinstance(value, dict):
            raise UserError(f"override {override!r}: {parent} is a single value, not a section")
        section = section[parent]
    section[last] = _yaml_value(text, f"the value of override {override!r}")
