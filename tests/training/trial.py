"""A small distilled set by hand, and a recipe that trains on it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json_lines
from s2d_ray.data.manifests import DistilledManifest, ModelManifest
from s2d_ray.data.records import DECISIONS, assistant, user
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import Recipe
from tests.manifests import distilled_manifest


def distilled(folder: Path, rows: int = 24) -> Artifact[DistilledManifest]:
    """A finished distilled set that says which letter a question asks for, one to four times over.

    The last of them is the answer, those before it are its trace.
    """
    (folder / "status=kept").mkdir(parents=True)
    table = pa.Table.from_pylist(
        [
            {
                "prompt_id": f"{i:03}",
                "messages": [user(f"What is the letter of case {i}?"), assistant(letters(i))],
                "target": letters(i)[-1],
            }
            for i in range(rows)
        ],
        schema=pa.schema([DECISIONS.field(name) for name in ("prompt_id", "messages", "target")]),
    )
    pq.write_table(table, folder / "status=kept" / "part-0.parquet")
    artifact = Artifact(folder, {"made": "by hand"}, DistilledManifest)
    artifact.open()
    artifact.finish(distilled_manifest(rows))
    return artifact


def letters(case: int) -> str:
    return "abc"[case % 3] * (1 + case % 4)


def recipe(model: Path, **train: Any) -> Recipe:
    settings = {"batch_size": 8, "micro_batch_size": 4, "epochs": 4, "learning_rate": 1e-2, "checkpoint_steps": 2}
    settings |= train
    return Recipe.model_validate(
        {
            "name": "trial",
            "model": str(model),
            "task": "geonames",
            "method": "s2a",
            "curate": {"target": "shortest" if "internalise" in train else "answer"},
            "train": {"dtype": "bfloat16"} | settings,
        }
    )


def trained(folder: Path, model: Path, rows: int = 24, **train: Any) -> tuple[Path, list[dict[str, float]]]:
    """The folder of a model trained on Ray, and its training log."""
    from s2d_ray.data.folders import TRAINING_LOG
    from s2d_ray.stages.train import Source
    from s2d_ray.stages.train import train as run

    base = Model.local("tiny", model)
    made = Artifact(folder / "model", {"made": "by a test"}, ModelManifest)
    found = recipe(model, **train)
    sources = [Source("", distilled(folder / "distilled", rows), None)]
    run(found, base, sources, made, "train", found.train.steps)
    return folder / "model", read_json_lines(folder / "model" / TRAINING_LOG)


def untied(model: Path, folder: Path) -> Path:
    """Write to `folder` the same model with an output layer of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = AutoModelForCausalLM.from_pretrained(model, tie_word_embeddings=False)
    found.lm_head.weight.data.normal_(std=0.3)
    found.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder
