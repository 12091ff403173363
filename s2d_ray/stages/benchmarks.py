"""Benchmarks: tasks of lm-eval on the model before and after, where that package is installed."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.copies import local_copy
from s2d_ray.data.manifests import BenchmarkScore, BenchmarksManifest
from s2d_ray.evaluation.general import AFTER, BEFORE
from s2d_ray.models import Model
from s2d_ray.recipes.recipe import AnyRecipe
from s2d_ray.stages.placement import actor_options, require_engine
from s2d_ray.terminal import console

YAML = ".yaml"
Scores = Mapping[str, Mapping[str, BenchmarkScore]]
"""Benchmark → metric → score."""


def run_benchmarks(
    recipe: AnyRecipe, base: Model, student: Model | None, benchmarks: Artifact[BenchmarksManifest]
) -> None:
    """Both models on every benchmark, one model after the other, each with as many GPUs or cores as an engine."""
    if benchmarks.open():
        return
    start, results = time.monotonic(), dict[str, dict[str, dict[str, BenchmarkScore]]]()
    models = {BEFORE: base, AFTER: student} if student else {}
    for arm, model in models.items():
        assert model is not None
        console.print(f"  {', '.join(recipe.evaluate.benchmarks)}: {arm}", markup=False, highlight=False)
        for name, metrics in _on_the_cluster(recipe, model.folder).items():
            for metric, score in metrics.items():
                results.setdefault(name, {}).setdefault(metric, {})[arm] = score
    seconds = time.monotonic() - start
    benchmarks.finish(BenchmarksManifest(results=results, lm_eval=version("lm_eval"), seconds=seconds))


def _on_the_cluster(recipe: AnyRecipe, model: Path) -> Scores:
    engine = recipe.engine
    device = require_engine(engine)
    bundle = {"CPU": 1.0, "GPU": float(engine.gpus)} if device == "gpu" else engine.bundles(device)[0]
    scores: Scores = ray.get(ray.remote(**actor_options(bundle))(_measure).remote(recipe, model, device))
    return scores


def _measure(recipe: AnyRecipe, model: Path, device: str) -> Scores:
    """On the machine that has room for it: what lm-eval makes of one model."""
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager

    engine, settings = recipe.engine, recipe.evaluate
    if device == "cpu":
        torch.set_num_threads(engine.cpus or len(os.sched_getaffinity(0)))
    arguments = {
        "pretrained": str(local_copy(model)),
        "dtype": engine.dtype,
        "trust_remote_code": recipe.trust_remote_code,
        "max_length": engine.max_model_len,
        # Of its own, and not the environment's: layers over all GPUs that it was given.
        "parallelize": device == "gpu" and engine.gpus > 1,
    }
    own = [name for name in settings.benchmarks if name.endswith(YAML)]
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=arguments,
        tasks=[_task(name) for name in settings.benchmarks],
        task_manager=TaskManager(include_path=sorted({str(Path(name).parent) for name in own}) or None),
        limit=settings.benchmark_limit,
        batch_size=8,
        device="cuda" if device == "gpu" else "cpu",
        log_samples=False,
        random_seed=recipe.seed,
        torch_random_seed=recipe.seed,
        numpy_random_seed=recipe.seed,
        fewshot_random_seed=recipe.seed,
    )
    return {name: _scores(metrics) for name, metrics in found["results"].items()}


def _task(name: str) -> str:
    """The benchmark's name for lm-eval: of a YAML file, the one that it gives itself."""
    if not name.endswith(YAML):
        return name
    # Not by a YAML reader: such files may name functions, by a tag that lm-eval alone knows.
    named = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", Path(name).read_text(), re.MULTILINE)
    return named[1] if named else Path(name).stem


def _scores(metrics: Mapping[str, Any]) -> dict[str, BenchmarkScore]:
    """Of one benchmark, from `metric,filter` → value and `metric_stderr,filter` → standard error."""
    names: Sequence[str] = [name for name in metrics if "," in name and "_stderr," not in name]
    found = {}
    for name in names:
        stderr = metrics.get(name.replace(",", "_stderr,", 1))
        known = isinstance(stderr, int | float)
        found[name.removesuffix(",none")] = BenchmarkScore(value=metrics[name], stderr=stderr if known else None)
    return found
