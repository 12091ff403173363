"""How a plan looks."""

from collections.abc import Sequence

from rich.table import Table

from s2d_ray.planning import disk
from s2d_ray.planning.fit import Stage
from s2d_ray.planning.memory import engine_memory, micro_batch_tokens, training_memory
from s2d_ray.planning.network import bytes_per_step, micro_batches, training_step
from s2d_ray.planning.phases import Measured, Phase
from s2d_ray.planning.shapes import Shape
from s2d_ray.planning.sizing import GIB, Node
from s2d_ray.recipes.recipe import AnyRecipe


def stages_table(stages: Sequence[Stage]) -> Table:
    """GPUs and nodes of each stage, and what it takes of what they have."""
    table = Table("stage", box=None, pad_edge=False)
    for column in ("GPUs", "nodes", "GPU memory", "node memory", "node disk"):
        table.add_column(column, justify="right")
    for stage in stages:
        table.add_row(stage.name, str(stage.gpus), str(stage.nodes), str(stage.gpu), str(stage.memory), str(stage.disk))
    return table


def node_line(node: Node) -> str:
    """What a node has."""
    return (
        f"nodes of {node.gpus} GPUs of {node.gpu_memory_gib:g} GiB, {node.memory_gib:,.0f} GiB of memory, "
        f"{node.disk_gib:,.0f} GiB of disk, {node.network_gbit:,.0f} Gbit/s between them; in GiB:"
    )


def notes(recipe: AnyRecipe, shape: Shape, teraflops: float, node: Node) -> list[str]:
    """Where memory, network and storage go."""
    return [
        _training_note(recipe, shape),
        *_network_notes(recipe, shape, teraflops, node),
        _engine_note(recipe, shape, node),
        _storage_note(recipe, shape),
    ]


def _training_note(recipe: AnyRecipe, shape: Shape) -> str:
    held = training_memory(shape, recipe.train)
    parts = {
        "weights": held.weights,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        f"activations of {micro_batch_tokens(recipe.train):,} tokens": held.activations,
        "buffers": held.buffers,
    }
    listed = ", ".join(f"{size / GIB:,.1f} {name}" for name, size in parts.items())
    return f"train, GiB a GPU: {listed}"


def _network_notes(recipe: AnyRecipe, shape: Shape, teraflops: float, node: Node) -> list[str]:
    """For steps that are as full as the settings allow."""
    train = recipe.train
    if train.max_workers == 1:
        return []
    step = training_step(shape, train, train.max_length, teraflops, node)
    rounds = micro_batches(train, train.max_length)
    sent = bytes_per_step(shape, train, rounds)
    return [
        f"train, network: {sent / 1e9:,.0f} GB a GPU and step of {train.batch_size} pairs of {train.max_length:,} "
        "tokens: "
        f"{step.sending:,.1f} s beside {step.computing:,.1f} s of computing, {step.network_share:.0%} of a step if "
        "nothing overlaps; shorter pairs compute less and send as much"
    ]


def _engine_note(recipe: AnyRecipe, shape: Shape, node: Node) -> str:
    engine = recipe.engine
    held = engine_memory(shape, engine, node.gpu_memory_gib)
    return (
        f"engines: of max_sequences {engine.max_sequences} the KV cache holds "
        f"{min(held.sequences, engine.max_sequences)} at once if all are {engine.max_model_len:,} tokens "
        "long (max_model_len)"
    )


def _storage_note(recipe: AnyRecipe, shape: Shape) -> str:
    model, checkpoint = disk.model_bytes(shape) / GIB, disk.checkpoint_bytes(recipe, shape) / GIB
    return (
        f"storage of results: {disk.storage(recipe, shape) / GIB:,.0f} GiB at most: of each round "
        f"{disk.distilled_models(recipe)} x {model:,.1f} of models, {recipe.train.keep_checkpoints} x "
        f"{checkpoint:,.1f} of checkpoints and one on its way"
    )


def tokens_table(branches: Sequence[Measured]) -> Table:
    """Tokens per prompt and step."""
    table = Table("tokens per prompt", box=None, pad_edge=False)
    for column in ("read", "cached", "generated"):
        table.add_column(column, justify="right")
    for branch in branches:
        for step, tokens in (*branch.steps.items(), *branch.rule_calls.items()):
            counts = (tokens.prompt, tokens.cached, tokens.generated)
            table.add_row(f"{branch.method}: {step}", *(f"{count / branch.prompts:,.1f}" for count in counts))
    return table


def pairs_line(branch: Measured) -> str:
    """What became of a branch's prompts."""
    kept = f"{branch.kept / branch.prompts:.0%} of {branch.prompts:,} prompts kept"
    return f"{branch.method}: {kept}, {branch.tokens_per_pair:.1f} tokens in a training pair"


def phases_table(found: Sequence[Phase], price_per_gpu_hour: float | None) -> Table:
    """GPUs, hours and money by stage and method."""
    table = Table("stage", "method", box=None, pad_edge=False)
    for column in ("GPUs", "network", "GPU-hours", "hours", *(["cost"] if price_per_gpu_hour is not None else [])):
        table.add_column(column, justify="right")

    def row(stage: str, method: str, gpus: str, network: str, gpu_seconds: float, hours: float) -> None:
        gpu_hours = gpu_seconds / 3600
        money = [] if price_per_gpu_hour is None else [f"{gpu_hours * price_per_gpu_hour:,.2f}"]
        table.add_row(stage, method, gpus, network, f"{gpu_hours:,.2f}", f"{hours:,.2f}", *money)

    for phase in found:
        network = f"{phase.network_share:.0%}" if phase.stage == "train" else ""
        row(phase.stage, phase.method, str(phase.gpus), network, phase.gpu_seconds, phase.hours)
    row("in all", "", "", "", sum(phase.gpu_seconds for phase in found), sum(phase.hours for phase in found))
    return table
