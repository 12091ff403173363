"""How close generation through Ray Data comes to bare vLLM: both on the same calls, in turn, in one run.

    python jobs/bench_generate.py [--recipe s2a-geonames] [--prompts 96] [--rounds 3]

Bare vLLM is `vllm.LLM.chat` on the calls that the method makes, wave by wave (all first calls, then all
second calls), with the recipe's sampling and the same engine settings. Engine start-up is counted on
neither side. Prints tokens/s of both per round, and the median ratio with its spread.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.copies import local_copy
from s2d_ray.data.manifests import CorpusManifest
from s2d_ray.data.records import Completion, Message, Prompt
from s2d_ray.inference.method_runs import run_method
from s2d_ray.inference.vllm_arguments import engine_arguments
from s2d_ray.inference.vllm_sampling import sampling_parameters
from s2d_ray.methods.registry import load_method
from s2d_ray.models import Model, resolve_model
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.runs.branches import candidates_artifact
from s2d_ray.runs.dtypes import with_dtype
from s2d_ray.stages.cluster import joined
from s2d_ray.stages.generate import generate
from s2d_ray.tasks.corpus import write_corpus
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import training_prompts


class Waves:
    """A completion engine over `vllm.LLM`: collects every call that is waiting, and makes them as one batch."""

    def __init__(self, recipe: Recipe, model: Model) -> None:
        arguments = engine_arguments(recipe.engine, local_copy(model.folder), recipe.trust_remote_code)
        from vllm import LLM

        self._llm = LLM(**arguments)
        self._seeded = recipe.engine.seeded
        self._waiting: list[tuple[Sequence[Message], object, asyncio.Future[list[Completion]]]] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        future: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        parameters = sampling_parameters(sampling, n, seed if self._seeded else None, sampling.max_tokens)
        self._waiting.append((messages, parameters, future))
        return await future

    async def run(self, recipe: Recipe, corpus: list[Prompt]) -> tuple[int, float]:
        """Tokens generated for the corpus, and seconds."""
        self._llm.reset_prefix_cache()
        method, settings = load_method(recipe.method), recipe.generate
        start = time.monotonic()
        rows = [
            asyncio.ensure_future(run_method(method, p, self, settings.sampling, settings.samples, recipe.seed))
            for p in corpus
        ]
        while not all(row.done() for row in rows):
            for _ in range(10):  # Let every row reach its next call.
                await asyncio.sleep(0)
            wave, self._waiting = self._waiting, []
            outputs = self._llm.chat([w[0] for w in wave], [w[1] for w in wave], use_tqdm=False) if wave else []
            for (_, _, future), output in zip(wave, outputs, strict=True):
                read = len(output.prompt_token_ids)
                future.set_result(
                    [Completion(o.text, str(o.finish_reason), read, 0, len(o.token_ids)) for o in output.outputs]
                )
        seconds = time.monotonic() - start
        return sum(sample.tokens for row in rows for sample in row.result()), seconds


def bare_worker(recipe: Recipe) -> None:
    """The other process: one bare engine, a round for every line on standard input."""
    engine = Waves(recipe, resolve_model(recipe.model, recipe.model_revision, recipe.trust_remote_code))
    corpus = list(training_prompts(load_task(recipe.task), recipe.seed))
    corpus = sorted(corpus, key=lambda p: p.prompt_id)[: recipe.limit]
    asyncio.run(engine.run(recipe, corpus[:1]))
    print("READY", flush=True)
    for _ in sys.stdin:
        print("ROUND", json.dumps(asyncio.run(engine.run(recipe, corpus))), flush=True)


def answer_of(worker: subprocess.Popen[str], word: str) -> str:
    """What follows `word` in the worker's next line that begins with it."""
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise SystemExit("the bare engine ended early: run again with --debug-bare to see why")


def through_ray(recipe: Recipe, model: Model, corpus: Artifact[CorpusManifest]) -> float:
    """Tokens/s of one round through Ray Data, engine start-up left out."""
    with tempfile.TemporaryDirectory() as folder:
        made = candidates_artifact(recipe, recipe.method, model, corpus, Path(folder))
        generate(recipe, load_task(recipe.task), load_method(recipe.method), model, corpus, made, "ours")
        return made.manifest.tokens_per_second or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="s2a-geonames")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--debug-bare", action="store_true", help="show what the bare engine's process prints")
    parser.add_argument("--bare-worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    recipe = with_dtype(load_single_recipe(options.recipe, [f"limit={options.prompts}"]))
    if options.bare_worker:
        return bare_worker(recipe)
    command = [sys.executable, __file__, "--bare-worker", "--recipe", options.recipe, "--prompts", str(options.prompts)]
    errors = None if options.debug_bare else subprocess.DEVNULL
    ratios: list[float] = []
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as worker,
        tempfile.TemporaryDirectory() as folder,
        joined(Path(folder) / "logs"),
    ):
        assert worker.stdin is not None
        answer_of(worker, "READY")
        model = resolve_model(recipe.model, recipe.model_revision, recipe.trust_remote_code)
        corpus = write_corpus(recipe, load_task(recipe.task), Path(folder) / "prompts", overwrite=False)
        for number in range(options.rounds):
            ours = through_ray(recipe, model, corpus)
            print("go", file=worker.stdin, flush=True)
            tokens, seconds = json.loads(answer_of(worker, "ROUND"))
            bare = tokens / seconds
            ratios.append(ours / bare)
            print(f"round {number + 1}: ours {ours:.0f}, bare vLLM {bare:.0f} tokens/s, ratio {ratios[-1]:.3f}")
        worker.stdin.close()
    spread = f"from {min(ratios):.3f} to {max(ratios):.3f}"
    print(f"ratio ours / bare: median {statistics.median(ratios):.3f}, {spread}, {len(ratios)} rounds")


if __name__ == "__main__":
    main()
