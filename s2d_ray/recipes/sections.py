"""The sections of a recipe that its stages read: engine, generation, curation, training; see also `evaluate.py`."""

from collections.abc import Mapping
from operator import not_
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.internalise import Internalise
from s2d_ray.recipes.strict import Named, Strict, is_none

PLACED_OTHERWISE = {
    "data_parallel_size": "engine.max_engines, which are engines of their own",
    "tensor_parallel_size": "engine.tensor_parallel",
    "pipeline_parallel_size": "engine.pipeline_parallel",
    "distributed_executor_backend": "engine.pipeline_parallel above 1 for an engine on several nodes",
}
"""Arguments of vLLM that decide about processes and GPUs → what to set instead."""
Device = Literal["gpu", "cpu"]
Target = Literal["answer", "shortest", "shortened"]
"""What is trained of a prompt that curation keeps."""
FurtherTarget = Literal["answer", "shortest", "shortened", "internalised"]
"""What a further student may be trained on."""
Bundle = dict[str, float]
"""Resource of Ray (`CPU`, `GPU`) → amount, all of it on one node."""


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
    template: dict[str, Any] = Field(default_factory=dict[str, Any], exclude_if=not_)
    """What the chat template is told in this call, before what the recipe's `template` says."""
    thinking: bool | None = Field(None, exclude_if=is_none)
    """Whether a model that can think does, by the switch of its chat template; unset: it does not, unless the template
    is told otherwise."""
    thinking_tokens: int | None = Field(None, ge=0, exclude_if=is_none)
    """Tokens of a thought at most, after which it is ended by force; `max_tokens` counts them too. Unset: no limit of
    its own."""
    said_tokens: int | None = Field(None, ge=1, exclude_if=is_none)
    """Tokens at most of what a step of a method says, by its own limit; what it thinks before goes beyond."""
    answer_stop: tuple[str, ...] = Field((), exclude_if=not_)
    """Texts that end the answer, and no other text of a method, as a client asks for it."""
    answer_format: AnswerFormat | None = Field(None, exclude_if=is_none)
    """The form of a call that is the answer and nothing else; set by the recipe's `answer_format`, or by a request."""

    def most_tokens(self, thinks: bool) -> int:
        """Of a call, in all. Whether the model thinks in it only the engine knows, which has the chat template."""
        if self.said_tokens is None or (thinks and self.thinking_tokens is None):
            return self.max_tokens
        return min(self.max_tokens, self.said_tokens + ((self.thinking_tokens or 0) if thinks else 0))


def _of_every_call(sampling: Sampling) -> Sampling:
    """What is sampled here is System 1 too, and that is trained on a prompt without any of this."""
    if sampling.said_tokens is not None:
        raise ValueError("said_tokens is for a method to say, of one of its steps: set max_tokens")
    for key in ("thinking", "thinking_tokens", "template"):
        if getattr(sampling, key) not in (None, {}):
            raise ValueError(f"{key} is said of a method, as method.{key}; of every call by the recipe's template")
    return sampling


EveryCall = Annotated[Sampling, AfterValidator(_of_every_call)]
"""The sampling of all calls of a stage, whatever the method."""


class Engine(Strict):
    """The inference engine and its share of the machine. Placement only: results do not depend on it."""

    kind: Literal["vllm", "scripted"] = "vllm"
    """`vllm` (its CPU build where there is no GPU), or `scripted` for trials without a model."""
    script: str = "s2d_ray.inference.scripted:echo"
    """For `scripted`: `module:function` of (messages, random generator), returning the model's text."""
    token_seconds: float = Field(0.0, ge=0)
    """For `scripted`: seconds that each generated token takes, `max_sequences` at once."""
    device: Device | Literal["auto"] = "auto"
    """What engines compute with, in every stage and in serving. `auto`: GPUs where an engine is split over several,
    where vLLM's CUDA build is installed, and where the cluster has GPUs or its autoscaler can add some; else CPU.
    With `gpu` a run waits for GPUs, or ends where the cluster cannot have them; it never computes on CPUs instead."""
    min_engines: int = Field(1, ge=1)
    """Engine actors that a stage starts with and keeps. Before and after a stage, and where nothing is left to
    do, there are none: what they held is free for training."""
    max_engines: int = Field(1, ge=1)
    """Engine actors at most; Ray Data scales between the two with the backlog."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that each layer of the model is split over, best all of one node."""
    pipeline_parallel: int = Field(1, ge=1)
    """Groups of layers on GPUs of their own: an engine takes `tensor_parallel` times as many GPUs. Above 1 an engine
    may be larger than a node: it takes as few nodes as have room for it."""
    cpus: int | None = Field(None, ge=1)
    """CPU cores of one engine where there is no GPU, set aside for it by Ray. Unset: one, so that engines are
    placed whatever else runs, and a sole engine (`max_engines: 1`) computes with all cores of its machine."""
    call_timeout: float = Field(600.0, gt=0)
    """Seconds that one call may take, waiting included; its row fails then. Where the engine gave no token to any
    call in that time it counts as dead, and another is started."""
    method_timeout: float = Field(3600.0, gt=0)
    """Seconds that a method, or a rule, may take for one prompt, its calls included; the row fails then. The default
    has room for six calls one after the other that each take all of `call_timeout`. Code that blocks holds up all other
    rows, so it is given half of `call_timeout` where that is less; its row fails, and its worker is replaced."""
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
    extra: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Further vLLM engine arguments, passed as they are, such as `enable_expert_parallel: true`, which deals the
    experts of a mixture out over an engine's GPUs. Those that ask for further GPUs are refused."""

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor_parallel * self.pipeline_parallel

    def bundles(self, device: Device) -> list[Bundle]:
        """What Ray sets aside for one engine: on one node, or one GPU at a time where it may be on several."""
        if device == "cpu":
            return [{"CPU": self.cpus or 1}]
        if self.pipeline_parallel > 1:
            return [{"CPU": 1, "GPU": 1} for _ in range(self.gpus)]
        return [{"CPU": 1, "GPU": self.gpus}]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_engines > self.max_engines:
            raise ValueError(f"min_engines {self.min_engines} is more than max_engines {self.max_engines}")
        for name, instead in PLACED_OTHERWISE.items():
            if name in self.extra:
                raise ValueError(f"extra.{name} asks for GPUs that Ray does not set aside: set {instead}")
        return self


class Generate(Strict):
    """System 2 over the unlabelled prompts."""

    samples: int = Field(4, ge=1)
    """Runs of the method per prompt."""
    sampling: EveryCall = Sampling()
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

    rules: tuple[Named, ...] = Field((Named(name="majority"),), min_length=1)
    """Applied in order; the first to reject decides."""
    target: Target = "answer"
    """What the model learns to say to a prompt: `answer`, the final answer alone, as in the paper; or, where no answer
    at once is possible, less reasoning than System 2's. `shortest`: the shortest of the traces, all that a method's
    calls wrote, that come to the answer which the rules kept. `shortened`: that one, as the model itself rewrites it in
    fewer words. Both choose without labels, and reject where no trace ends in the answer, as the task reads it: a task
    whose answers are whole texts has none."""
    max_failed_share: float = Field(0.1, ge=0, le=1)
    """The stage stops with an error when a rule failed on more than this share of the prompts."""


def _layer_names(value: object) -> object:
    match value:
        case "all-linear" | [str(), *_] | (str(), *_):
            return value
    raise ValueError("all-linear, or a list of names of layers")


class Lora(Strict):
    """Low-rank adapters beside the linear layers."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_layer_names)] = "all-linear"
    """Which layers have one: all of attention and MLP, or those whose name is in a list or ends with one of it, such as
    `[q_proj, v_proj]`."""
    quantize: Literal["4bit"] | None = None
    """Hold the frozen weights in four bits (nf4, as QLoRA does): a quarter of the memory, and slower. It needs the
    package bitsandbytes. What comes out is the adapters merged into the whole weights."""


def _worker_range(value: object) -> object:
    match value if isinstance(value, list | tuple) else [value, value]:
        case [int(least), int(most)] if 1 <= least <= most:
            return value if isinstance(value, int) else (least, most)
    raise ValueError("a number of workers from 1, or [min, max]")


OWNED = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size or micro_batch_tokens",
    "gradient_accumulation_steps": "micro_batch_size or micro_batch_tokens",
    "gradient_clipping": "gradient_clipping",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "bf16": "dtype",
    "fp16": "dtype",
    "zero_optimization.stage": "zero_stage",
}
"""Key of DeepSpeed's configuration → the keys of `train` that decide it."""


def _not_owned(extra: dict[str, Any]) -> dict[str, Any]:
    zero = extra.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise ValueError("zero_optimization is a mapping")
    for key in (*extra, *(f"zero_optimization.{inner}" for inner in zero)):
        if key in OWNED:
            raise ValueError(f"{key} is decided by train.{OWNED[key]}")
    return extra


class Train(Strict):
    """Fine-tuning of the base model on the curated pairs, loss on the target only, each pair weighing the same."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"max_steps": "steps"}

    device: Device | Literal["auto"] = "auto"
    """What workers compute with. `auto`: GPUs, one each, where vLLM's CUDA build is installed, and where the cluster
    has GPUs or its autoscaler can add some; else CPU. `gpu` is waited for, or refused; never replaced by CPUs."""
    workers: Annotated[int | tuple[int, int], BeforeValidator(_worker_range)] = 1
    """Training processes. `[min, max]` is elastic: as many as the cluster has room for, fewer when a node is lost and
    more when one comes, each time from the last checkpoint. The batches stay the same."""
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
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` keeps two bytes per trained parameter in place of eight, in about the same quality; it needs the
    package bitsandbytes."""
    internalise: Internalise | None = None
    """Take the trace away during the training, until the answer stands alone; `{}` for the defaults. It needs a trace:
    `curate.target: shortest` or `shortened`."""
    epochs: float = Field(2.0, gt=0)
    """Passes over the distilled set, where `steps` is not set. All other trainings of a run take as many steps as that
    makes."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps, exactly so many in every training; unset follows `epochs`."""
    max_examples: int | None = Field(None, ge=1)
    """Examples at most, the first by id; unset uses all. In a mixture, of each part."""
    batch_size: int = Field(16, ge=1)
    """Examples per optimizer step over all workers, however many there are."""
    micro_batch_size: int = Field(8, ge=1)
    """Examples per worker and forward pass at most, packed into one row without padding; fewer take less memory.
    Gradients are accumulated until `batch_size` is reached."""
    micro_batch_tokens: int | None = Field(None, ge=1)
    """Tokens per worker and forward pass at most, in place of `micro_batch_size`: a row holds as many examples as fit,
    and workers get about equally much. An example that is longer is a row of its own."""
    gradient_checkpointing: bool = False
    """Keep of each layer its input alone and compute the layer again on the way back: far less memory for a third more
    computing. The results are the same."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """How attention is computed; `auto` leaves it to transformers. `flash_attention_2` takes the least memory for long
    rows, and needs the package flash-attn."""
    max_length: int = Field(512, ge=8)
    """Tokens of prompt and target; longer examples are left out and counted."""
    gradient_clipping: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    checkpoint_steps: int = Field(10, ge=1)
    """Optimizer steps between checkpoints: what a crash can cost, or twice that while a checkpoint is being stored."""
    checkpoint_minutes: float | None = Field(None, ge=0)
    """Minutes between checkpoints, instead of steps: for a large model, whose checkpoints take long to store."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints kept during the training, the latest ones; none is left when it is finished."""
    max_failures: int = Field(3, ge=0)
    """Losses of a worker or its node that are survived by going on from the last checkpoint. Preemptions that Ray is
    told of do not count."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the frozen or sharded weights; optimizer state is float32. `auto` is the engine's."""
    extra: Annotated[dict[str, Any], AfterValidator(_not_owned)] = Field(default_factory=dict[str, Any])
    """Further keys of DeepSpeed's configuration, which go before our own; not those that other keys here decide."""

    @property
    def max_workers(self) -> int:
        """Workers at most."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def min_workers(self) -> int:
        """Workers at least."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    def bundles(self, device: Device, cores: int = 1) -> list[Bundle]:
        """What Ray sets aside for the fewest workers, each on one node: a GPU, or so many cores."""
        own: Bundle = {"CPU": 1, "GPU": 1} if device == "gpu" else {"CPU": cores}
        return [own] * self.min_workers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_size < self.max_workers:
            raise ValueError(f"batch_size {self.batch_size} has no example for each of {self.max_workers} workers")
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload optimizer needs zero_stage 1, 2 or 3")
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError("offload parameters needs zero_stage 3")
        if self.offload != "none" and self.optimizer == "adamw_8bit":
            raise ValueError("optimizer adamw_8bit computes on the GPU: set offload none, or optimizer adamw")
        if self.attention == "flash_attention_2" and self.dtype == "float32":
            raise ValueError("attention flash_attention_2 computes in bfloat16 or float16: set dtype")
        if self.lora is not None and self.lora.quantize is not None and self.zero_stage == 3:
            raise ValueError("lora.quantize needs zero_stage 0, 1 or 2: ZeRO-3 cannot split weights of 4 bits")
        return self
