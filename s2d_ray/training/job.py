"""What a training worker is given: the job, and the distilled pairs as token ids."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, concatenate_datasets, config, load_dataset

from s2d_ray.data.records import assistant, content_id
from s2d_ray.data.storage import alone
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.recipes.sections import Train
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.encoding import Encoded, encode, encoding_id

PAIRS_PER_PROCESS = 2000
"""Encoded by one process at least: what is about as long as to start it."""


class Pairs(NamedTuple):
    """A distilled set, as Parquet files with `prompt_id` and `messages`, the last turn of which is what is trained.

    Where a trace is to be taken away, also with `target`, the answer without it.
    """

    files: Sequence[Path]
    max_examples: int | None
    """Examples of it at most, the first by id."""


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to know. Pickled to every worker."""

    train: Train
    seed: int
    model: Path
    trust_remote_code: bool
    pairs: Sequence[Pairs]
    """Ids are unique within each of them, not over them all."""
    output: Path
    steps: int | None = None
    """Of the optimizer; None: as many as the recipe's passes over the pairs make."""
    chat: Chat = DEFAULT_CHAT
    """How the pairs' prompts are put to the model, and will be in serving."""


def load_pairs(job: TrainJob, renderer: Renderer) -> Dataset:
    """The encoded pairs, set after set, each in order of its ids; memory-mapped.

    Where a trace is to be taken away they also have the tokens of the `answer` alone, and by how many the target is
    longer, `trace`. Those longer than `max_length`, with their trace, are left out. Of the workers on a node one
    encodes, in as many processes as there are cores; the others wait, and map the same files.
    """
    encoded = concatenate_datasets([_encoded(pairs, job, renderer) for pairs in job.pairs])
    most = job.train.max_length
    fitting = encoded.filter(lambda lengths: [n <= most for n in lengths], input_columns="length", batched=True)
    if not len(fitting):
        raise ValueError(f"every one of {len(encoded)} examples is longer than train.max_length {most}")
    return fitting


def without(pair: Mapping[str, Any], lost: int) -> Encoded:
    """An encoded pair without the first `lost` tokens of its trace; the answer alone where that is all of the trace."""
    # Not what is left of the whole then: the answer may be other tokens where nothing is before it.
    target = pair["answer"] if lost == pair.get("trace") else pair["target"][lost:]
    return Encoded(pair["prompt"], target)


def _encoded(pairs: Pairs, job: TrainJob, renderer: Renderer) -> Dataset:
    # Named here, since `datasets` would otherwise pickle the renderer to name the cached result; and in a folder of
    # that name, since it knows the files by their paths and times alone.
    columns = ["messages"] if job.train.internalise is None else ["messages", "target"]
    name = content_id(encoding_id(job.model, pairs.files, job.chat), str(pairs.max_examples), *columns[1:])
    folder = Path(config.HF_DATASETS_CACHE) / name
    with alone(folder.with_suffix(".lock")):
        return _encode_all(pairs, columns, name, folder, renderer)


def _encode_all(pairs: Pairs, columns: list[str], name: str, folder: Path, renderer: Renderer) -> Dataset:
    files = [str(path) for path in pairs.files]
    found = load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder))
    # Part files and their rows come in any order; ids do not.
    found = found.select_columns(["prompt_id", *columns]).sort("prompt_id")
    if pairs.max_examples is not None:
        found = found.select(range(min(pairs.max_examples, len(found))))

    def to_tokens(row: dict[str, Any]) -> dict[str, Any]:
        example = encode(row["messages"], renderer)
        tokens = {"prompt": example.prompt, "target": example.target, "length": len(example)}
        if "target" not in columns:
            return tokens
        alone = encode([*row["messages"][:-1], assistant(row["target"])], renderer)
        return tokens | {"answer": alone.target, "trace": len(example.target) - len(alone.target)}

    processes = min(os.cpu_count() or 1, len(found) // PAIRS_PER_PROCESS)
    return found.map(to_tokens, remove_columns=columns, new_fingerprint=name, num_proc=processes or None)
