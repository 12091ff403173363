"""`s2d plan`: what it reads off a run, and what it makes of it."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from s2d_ray.data.files import read_rows
from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import (
    CANDIDATES,
    DECISIONS,
    Candidates,
    Row,
    Sample,
    Step,
    assistant,
    candidates_to_row,
    prompt_from_row,
)
from s2d_ray.errors import UserError
from s2d_ray.planning.estimate import estimate, fitting, measure_run, measure_sample, speed_for
from s2d_ray.planning.phases import Measured, named, phases
from s2d_ray.planning.shapes import Shape, shape_of
from s2d_ray.planning.sizing import Gpu, Node
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Mixture, Recipe
from s2d_ray.report.ledger import Tokens
from s2d_ray.runs.graph import make_plans
from s2d_ray.runs.pipeline import ingest
from s2d_ray.runs.resolved import resolve
from tests.manifests import candidates_manifest, distilled_manifest, write_lease
from tests.stages.runs import write_corpus, write_recipe

PROMPTS = 20
SHAPE = Shape(7e9, 4096, 32, 32, 32, 128, 11008, 32000)
GPU = Gpu(1000, 400)
NO_NETWORK = Node(network_gbit=1e12, nvlink_gbyte=1e12)
"""Takes no time."""
# Per prompt: 1000 read of which 800 cached, 50 generated; 0.5 kept.
STEPS = {"a": Tokens(100, 90_000, 80_000, 3_000), "b": Tokens(100, 10_000, 0, 2_000)}
MAIN = Measured("student", "s2a", 100, STEPS, {}, 50, 60, None, 8)
VOTED = replace(
    MAIN,
    arm="student_of_base",
    method="direct (control)",
    steps={},
    rule_calls={"universal": Tokens(50, 5_000, 0, 500)},
)


def recipe(**sections: object) -> Recipe:
    return Recipe.model_validate({"name": "mine", "model": "m", "task": "prompts", "method": "s2a"} | sections)


def test_each_stage_of_each_branch_grows_with_the_prompts() -> None:
    settings = {"epochs": 2, "batch_size": 10, "micro_batch_size": 10, "workers": 2}
    wanted = recipe(train=settings, engine={"max_engines": 4, "tensor_parallel": 2})
    generate, curate, train, train_too = phases(wanted, [MAIN, VOTED], 100_000, SHAPE, GPU, NO_NETWORK)
    # 1000 times 5000 tokens at 1000/s, and 2 x 7e9 x 1000 x 20,000 FLOPs at 4e14/s.
    assert (generate.stage, generate.method, generate.gpus) == ("generate", "s2a", 8)
    assert generate.gpu_seconds == pytest.approx(5000 + 700)
    assert generate.hours == pytest.approx(5700 / 8 / 3600)
    # 50,000 pairs twice, of 60 tokens, at 4 x 7e9 FLOPs (LoRA).
    assert (train.stage, train.gpus) == ("train", 2)
    assert train.gpu_seconds == pytest.approx(6e6 * 4 * 7e9 / 4e14)
    assert (curate.stage, curate.method) == ("curate", "direct (control)")
    assert curate.gpu_seconds == pytest.approx(500 + 2 * 7e9 * 5e6 / 4e14)
    assert train_too.gpu_seconds == train.gpu_seconds


def test_a_limit_on_steps_or_examples_limits_training() -> None:
    def trained(max_examples: int | None = None, **settings: object) -> float:
        batch = {"epochs": 1, "batch_size": 10, "micro_batch_size": 10}
        branch = replace(MAIN, max_examples=max_examples)
        return phases(recipe(train=batch | settings), [branch], 100_000, SHAPE, GPU, NO_NETWORK)[-1].gpu_seconds

    assert trained(steps=100) == pytest.approx(100 * 10 * 60 * 4 * 7e9 / 4e14)
    assert trained(max_examples=500) == pytest.approx(500 * 60 * 4 * 7e9 / 4e14)
    assert trained(lora=None, zero_stage=3, steps=100) == pytest.approx(100 * 10 * 60 * 6 * 7e9 / 4e14)


def test_a_control_with_more_pairs_is_trained_no_longer() -> None:
    settings = {"epochs": 2, "batch_size": 10, "micro_batch_size": 10}
    more = replace(VOTED, kept=80, tokens_per_pair=MAIN.tokens_per_pair)
    trained, control = phases(recipe(train=settings), [MAIN, more], 100_000, SHAPE, GPU, NO_NETWORK)[-2:]
    assert (trained.stage, control.stage) == ("train", "train")
    assert control.gpu_seconds == trained.gpu_seconds
    alone = phases(recipe(train=settings), [more], 100_000, SHAPE, GPU, NO_NETWORK)[-1]
    assert alone.gpu_seconds > control.gpu_seconds, "without a distilled model its own pairs decide"


def test_each_further_target_is_one_more_training_in_as_many_steps() -> None:
    settings = {"epochs": 2, "batch_size": 10, "micro_batch_size": 10}
    method = named("s2a", "student_shortest")
    twice_as_long = replace(MAIN, arm="student_shortest", method=method, steps={}, kept=40, tokens_per_pair=120)
    found = phases(recipe(train=settings), [MAIN, twice_as_long], 100_000, SHAPE, GPU, NO_NETWORK)
    assert [(phase.stage, phase.method) for phase in found] == [
        ("generate", "s2a"),
        ("train", "s2a"),
        ("train", "s2a (target shortest)"),
    ]
    assert found[-1].gpu_seconds == pytest.approx(2 * found[-2].gpu_seconds)


def test_the_parts_of_a_mixture_are_trained_together() -> None:
    part = {"task": "prompts", "method": "s2a"}
    settings = {"epochs": 1, "batch_size": 10, "micro_batch_size": 10}
    wanted = Mixture.model_validate(
        {"name": "mine", "model": "m", "parts": {"one": part, "two": part}, "train": settings}
    )
    two = replace(MAIN, method="two s2a", tokens_per_pair=90, max_examples=100)
    three = replace(two, method="three s2a", kept=0, tokens_per_pair=0)
    found = phases(wanted, [MAIN, two, three], 1_000, SHAPE, GPU, NO_NETWORK)
    assert [(phase.stage, phase.method) for phase in found] == [
        ("generate", "s2a"),
        ("generate", "two s2a"),
        ("generate", "three s2a"),
        ("train", "all parts"),
    ]
    # 500 pairs of 60 tokens and 100 of 90.
    assert found[-1].gpu_seconds == pytest.approx((500 * 60 + 100 * 90) * 4 * 7e9 / 4e14)
    assert phases(wanted, [three], 1_000, SHAPE, GPU, NO_NETWORK)[1:] == []


def test_what_the_network_takes_of_a_training_is_in_its_time() -> None:
    settings = {"batch_size": 16, "micro_batch_size": 1, "workers": 16, "zero_stage": 3, "lora": None, "epochs": 1}
    slow, fast = (
        phases(recipe(train=settings), [MAIN], 100_000, SHAPE, GPU, Node(network_gbit=gbit))[-1] for gbit in (80, 800)
    )
    # 3,125 steps of 960 tokens on 16 GPUs, in each 3 x 14 GB of which 15/16 cross at 10 or 100 GB/s.
    computing, sending = 6 * 7e9 * 960 / 16 / 4e14, 42e9 * 15 / 16 / 10e9
    assert slow.hours == pytest.approx(3125 * (computing + sending) / 3600)
    assert fast.hours == pytest.approx(3125 * (computing + sending / 10) / 3600)
    assert slow.network_share == pytest.approx(sending / (computing + sending))


def test_hours_and_money_are_those_of_what_fits() -> None:
    better, shown = fitting(recipe(), SHAPE, 400, Node(gpu_memory_gib=12))
    assert (better.engine.gpus, better.train.zero_stage) == (4, 3)
    assert [line for line in shown if isinstance(line, str) and "does not fit" in line]
    assert phases(better, [MAIN], 1000, SHAPE, GPU, NO_NETWORK)[0].gpus == 4


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path) -> tuple[Recipe, RunFolders]:
    """A run that got as far as its distilled set, on two GPUs."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(PROMPTS)))
    path = tmp_path / "mine.yaml"
    task = {"name": "prompts", "path": str(corpus)}
    content = {"name": "mine", "model": str(tiny_model), "task": task, "method": "s2a"}
    path.write_text(yaml.safe_dump(content | {"evaluate": {"controls": False}}))
    loaded = load_single_recipe(str(path), ["engine.dtype=float32", "train.dtype=float32"])
    folders = RunFolders(tmp_path / "runs" / "mine")
    return loaded, folders


def finish(loaded: Recipe, folders: RunFolders) -> int:
    """Write the run's folders; the number of prompts."""
    ingest(resolve(loaded), folders)
    [plan] = make_plans(resolve(loaded), folders)
    [branch] = plan.parts[0].branches
    prompts = [prompt_from_row(row) for row in read_rows(folders.prompts)]
    steps = (Step("rewrite", "r", "stop", 90, 60, 9, 1.0), Step("respond", "a", "stop", 10, 0, 1, 1.0))
    rows = [candidates_to_row(Candidates(p, [Sample("a", steps=steps)])) for p in prompts]
    branch.candidates.open()
    pq.write_table(pa.Table.from_pylist(rows, schema=CANDIDATES), folders.candidates / "0.parquet")
    branch.candidates.finish(candidates_manifest(len(prompts)))
    branch.distilled.open()
    kept: list[Row] = [{"prompt_id": p.prompt_id, "messages": [*p.messages, assistant("a")]} for p in prompts[::2]]
    (folders.distilled / "status=kept").mkdir()
    schema = pa.schema([field for field in DECISIONS if field.name != "status"])
    pq.write_table(pa.Table.from_pylist(kept, schema=schema), folders.distilled / "status=kept" / "0.parquet")
    branch.distilled.finish(distilled_manifest(len(kept), len(prompts)))
    write_lease(folders.base, {"candidates": {"seconds": 5.0, "gpu_seconds": 10.0}})
    return len(prompts)


def printed(loaded: Recipe, found: Measured, prompts: int, params_b: float | None) -> dict[str, list[str]]:
    """The words of each line that a person gets to see, by what the line begins with."""
    console = Console(width=200)
    with console.capture() as captured:
        shape = shape_of(loaded, params_b)
        gpu = Gpu(speed_for(loaded, [found], shape, 400), 400)
        for part in estimate(loaded, [found], prompts, shape, gpu, Node(), price_per_gpu_hour=3.0):
            console.print(part)
    return {line.split("  ")[0]: line.split() for line in captured.get().splitlines()}


def test_a_run_is_measured_and_planned_from(run: tuple[Recipe, RunFolders]) -> None:
    prompts = finish(*run)
    [found] = measure_run(*run)
    assert found.steps == {
        "rewrite": Tokens(prompts, 90 * prompts, 60 * prompts, 9 * prompts),
        "respond": Tokens(prompts, 10 * prompts, 0, prompts),
    }
    assert (found.method, found.prompts, found.kept, found.gpu_seconds) == ("s2a", prompts, (prompts + 1) // 2, 10.0)
    assert found.tokens_per_pair > 10
    lines = printed(run[0], found, 1000 * prompts, None)
    assert lines["s2a: rewrite"][-3:] == ["90.0", "60.0", "9.0"]
    # On one GPU, for the same model: a thousand times 10 GPU-seconds, 2.78 hours at 3 each.
    assert lines["generate"][1:] == ["s2a", "1", "2.78", "2.78", "8.33"]
    larger = 10 * shape_of(run[0], None).parameters / 1e9
    assert printed(run[0], found, 1000 * prompts, larger)["generate"][1:] == ["s2a", "1", "27.78", "27.78", "83.33"]


def test_what_took_no_gpu_gives_no_speed(run: tuple[Recipe, RunFolders]) -> None:
    finish(*run)
    [found] = measure_run(*run)
    with pytest.raises(UserError, match=r"no GPU took part.*give --tokens-per-second"):
        speed_for(run[0], [replace(found, gpu_seconds=None)], SHAPE, 400)
    assert estimate(run[0], [replace(found, gpu_seconds=None)], 10, SHAPE, GPU, Node(), None)


def test_a_run_that_is_not_there_is_refused_and_nothing_is_written(run: tuple[Recipe, RunFolders]) -> None:
    with pytest.raises(UserError, match=r"no curated run of mine .*--measure 32"):
        measure_run(*run)
    assert not run[1].base.exists()


def test_a_run_of_another_recipe_is_not_measured(run: tuple[Recipe, RunFolders]) -> None:
    finish(*run)
    loaded, folders = run
    other = loaded.model_copy(update={"generate": loaded.generate.model_copy(update={"samples": 9})})
    with pytest.raises(UserError, match="made by a different recipe"):
        measure_run(other, folders)


@pytest.mark.ray
def test_a_sample_goes_through_the_stages_and_leaves_nothing(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    path = write_recipe(tmp_path, tiny_model, write_corpus(tmp_path / "corpus.jsonl", 60), name="sampled")
    [found] = measure_sample(load_single_recipe(str(path), ["limit=16"]))
    assert (found.method, found.prompts, found.gpu_seconds) == ("s2a", 16, None)
    assert {step: tokens.calls for step, tokens in found.steps.items()} == {"rewrite": 64, "respond": 64}
    assert found.steps["rewrite"].prompt > found.steps["respond"].prompt > 0
    assert 0 < found.kept <= 16
    assert not Path("runs/sampled").exists()
