"""A training that goes on from its checkpoint on another number of workers is the training that it would have been."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.files import read_json
from s2d_ray.data.records import assistant, user
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.training.encoding import encode
from s2d_ray.training.schedule import Removal, batches
from tests.training.exported import assert_same, by_peft, by_transformers
from tests.training.resizing import HALFWAY, STEPS, Case, resized
from tests.training.trial import distilled, untied

pytestmark = pytest.mark.train

EXACT = {"dtype": "float32", "batch_size": 5, "micro_batch_size": 2, "learning_rate": 1e-3, "warmup_share": 0}
"""Float32, so that all that differs is the order of sums; five examples do not divide by two workers."""
LORA = {"rank": 3}
TWO_TOKENS = 2 * 384
"""Logits of the tiny model."""
LEAN = {"gradient_checkpointing": True, "micro_batch_tokens": 80}
"""What spares memory, with room for two or three of the examples in a row."""
INTERNALISED = {"internalise": {"share": 0.7, "smoothing": 1.0}, "micro_batch_tokens": 80}
"""Traces are taken away in the first four steps, of which the fourth comes after the half."""
CASES = [
    Case("zero2-lora", EXACT | {"zero_stage": 2, "lora": LORA}),
    Case("zero2-full", EXACT | {"zero_stage": 2, "lora": None, "micro_batch_size": 1}),
    Case("zero3-lora", EXACT | {"zero_stage": 3, "lora": LORA}),
    Case("zero3-full", EXACT | {"zero_stage": 3, "lora": None, "micro_batch_size": 1}),
    Case("zero2-lora-internalised", EXACT | {"zero_stage": 2, "lora": LORA} | INTERNALISED),
    Case("zero3-lora-lean", EXACT | {"zero_stage": 3, "lora": LORA} | LEAN, TWO_TOKENS),
]
MORE = [
    Case("zero0-lora", EXACT | {"zero_stage": 0, "lora": LORA}),
    Case("zero1-full", EXACT | {"zero_stage": 1, "lora": None}),
    Case("zero2-offload", EXACT | {"zero_stage": 2, "lora": LORA, "offload": "optimizer"}),
    Case("zero3-offload", EXACT | {"zero_stage": 3, "lora": None, "offload": "parameters"}),
    Case("zero3-cosine", EXACT | {"zero_stage": 3, "lora": LORA, "schedule": "cosine"}),
]
PLAIN = [
    *(Case(f"zero{s}-lora", EXACT | {"zero_stage": s, "lora": LORA}) for s in range(4)),
    *(Case(f"zero{s}-full", EXACT | {"zero_stage": s, "lora": None}) for s in range(1, 4)),
    Case("zero2-offload", EXACT | {"zero_stage": 2, "lora": LORA, "offload": "optimizer"}),
    Case("zero3-offload", EXACT | {"zero_stage": 3, "lora": None, "offload": "parameters"}),
]
SPARING = [Case(f"{case.name}-lean", case.train | LEAN, TWO_TOKENS) for case in PLAIN]
IN_BITS = [
    *(Case(f"zero{s}-8bit", EXACT | {"zero_stage": s, "lora": None, "optimizer": "adamw_8bit"}) for s in range(4)),
    *(Case(f"zero{s}-4bit", EXACT | {"zero_stage": s, "lora": LORA | {"quantize": "4bit"}} | LEAN) for s in range(3)),
]
"""What bitsandbytes does."""
HALF_PRECISION = [
    Case(f"{dtype}-zero{s}", EXACT | {"zero_stage": s, "lora": LORA, "dtype": dtype})
    for dtype in ("bfloat16", "float16")
    for s in range(4)
]


@pytest.fixture(scope="module")
def train_all(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Callable[..., Path]:
    """Trains cases on numbers of workers; gives the folder of the results."""
    pairs = distilled(tmp_path_factory.mktemp("pairs") / "distilled").path / "status=kept" / "part-0.parquet"

    def run(cases: list[Case], sizes: list[int], model: Path = tiny_model) -> Path:
        output = tmp_path_factory.mktemp("resized")
        resized(cases, sizes, model, pairs, output)
        return output

    return run


@pytest.fixture(scope="module")
def one_and_two(train_all: Callable[..., Path]) -> Path:
    return train_all(CASES, [1, 2])


@pytest.fixture(scope="module")
def more(train_all: Callable[..., Path]) -> Path:
    return train_all([*CASES, *MORE, *HALF_PRECISION], [1, 2, 3])


@pytest.fixture(scope="module")
def sparing(train_all: Callable[..., Path]) -> Path:
    return train_all([*PLAIN, *SPARING], [1, 2])


@pytest.fixture(scope="module")
def in_bits(train_all: Callable[..., Path]) -> Path:
    pytest.importorskip("bitsandbytes")
    return train_all([*IN_BITS, *(case for case in PLAIN if case.name in ("zero2-lora", "zero2-full"))], [1, 2])


def state(folder: Path) -> dict[str, Any]:
    """All tensors of a checkpoint."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def assert_joined(case: Path, first: int, then: int, loss: float, move: float) -> None:
    """A training resized from `first` to `then` workers is the one that had `then` all along.

    `loss` and `move` are the largest relative differences of a step's loss, and of how far a tensor moved.
    """
    unbroken, resumed = case / f"{then}-{then}", case / f"{first}-{then}"
    steps, steps_resumed = read_json(unbroken / "log.json"), read_json(resumed / "log.json")
    assert len(steps) == STEPS
    for expected, found in zip(steps[HALFWAY:], steps_resumed, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=loss)
        assert (found["learning_rate"], found["tokens"]) == (expected["learning_rate"], expected["tokens"])
    half, end, end_resumed = state(unbroken / "half"), state(unbroken / "end"), state(resumed / "end")
    assert half.keys() == end.keys() == end_resumed.keys()
    assert {name.split("/")[0] for name in end} == {"value", "exp_avg", "exp_avg_sq"}
    for name in end:
        moved = (end[name] - half[name]).norm()
        assert moved > 0, f"{name} is not trained"
        assert (end_resumed[name] - end[name]).norm() < move * moved, name


def assert_exported(base: Path, trained: Path, expected: Path) -> None:
    """The exported model has the values of the last checkpoint, as transformers or peft would have written them."""
    values = {key.removeprefix("value/"): t for key, t in state(trained / "end").items() if key.startswith("value/")}
    adapter = trained / "model" / "adapter"
    if adapter.exists():
        stored = {name.replace(".weight", ".default.weight"): tensor for name, tensor in state(adapter).items()}
        assert stored.keys() == values.keys() and all(stored[name].equal(values[name]) for name in values)
        by_peft(base, adapter, expected)
    else:
        by_transformers(base, values, expected)
    assert_same(trained / "model", expected)


@pytest.mark.parametrize("case", [case.name for case in CASES])
@pytest.mark.parametrize("size", [1, 2])
def test_the_export_is_the_last_checkpoint_in_bfloat16(
    one_and_two: Path, case: str, size: int, tmp_path: Path, tiny_model: Path
) -> None:
    assert_exported(tiny_model, one_and_two / case / f"{size}-{size}", tmp_path)


@pytest.mark.parametrize("case", [case.name for case in CASES])
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_the_loss_curve_joins_over_a_resize(one_and_two: Path, case: str, first: int, then: int) -> None:
    assert_joined(one_and_two / case, first, then, loss=1e-4, move=0.01)


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_a_checkpoint_is_read_once_by_all_workers_together(one_and_two: Path, case: str) -> None:
    sizes = [tensor.nbytes for tensor in state(one_and_two / case / "1-1" / "half").values()]
    by_worker = [read_json(one_and_two / case / "1-2" / f"read-{n}.json") for n in (0, 1)]
    assert sorted(size for read in by_worker for size in read) == sorted(sizes)
    assert max(map(len, by_worker)) - min(map(len, by_worker)) <= 3, "a parameter has three tensors"


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_the_number_of_workers_does_not_show_in_the_loss(one_and_two: Path, case: str) -> None:
    one, two = (read_json(one_and_two / case / f"{size}-{size}" / "log.json") for size in (1, 2))
    for single, double in zip(one, two, strict=True):
        assert single["loss"] == pytest.approx(double["loss"], rel=1e-4)


def assert_same_losses(results: Path, lean: str, size: int) -> None:
    """What spares memory does not show in the loss."""
    steps, steps_lean = (
        read_json(results / case / f"{size}-{size}" / "log.json") for case in (lean.removesuffix("-lean"), lean)
    )
    for plain, found in zip(steps, steps_lean, strict=True):
        assert found["loss"] == pytest.approx(plain["loss"], rel=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_what_spares_memory_does_not_show_in_the_loss(one_and_two: Path, size: int) -> None:
    assert_same_losses(one_and_two, "zero3-lora-lean", size)


def test_a_step_computes_what_is_left_of_the_traces(one_and_two: Path, tiny_model: Path) -> None:
    """Case i says its letter one to four times, a token each, the last of which is the answer: three of a trace."""

    renderer = Renderer.load(tiny_model, False)
    lengths = [len(encode([user(f"What is the letter of case {i}?"), assistant("a")], renderer)) for i in range(24)]
    removal = Removal(longest=3, steps=4, smoothing=1.0, seed=0)
    expected = [
        sum(lengths[i] + max(0, i % 4 - removal.lost(number, i)) for i in batch)
        for number, batch in enumerate(batches(24, 5, STEPS, seed=0))
    ]
    alone = [sum(lengths[i] for i in batch) for batch in batches(24, 5, STEPS, seed=0)]
    assert expected[4:] == alone[4:] and all(a < b for a, b in zip(alone[:2], expected[:2], strict=True))
    for size in (1, 2):
        log = read_json(one_and_two / "zero2-lora-internalised" / f"{size}-{size}" / "log.json")
        assert [step["tokens"] for step in log] == expected


@pytest.mark.parametrize(("case", "alone", "shared"), [("zero2-lora", 0, 0), ("zero2-full", 0, 1)])
def test_only_a_worker_without_an_example_pads(one_and_two: Path, case: str, alone: int, shared: int) -> None:
    """Five examples are packed whole; one by one on two workers, the sixth micro-batch is padding."""
    for size, examples in ((1, alone), (2, shared)):
        for step in read_json(one_and_two / case / f"{size}-{size}" / "log.json"):
            assert bool(step["padding"]) == bool(examples)
            assert step["padding"] <= examples * step["tokens"] / 5


@pytest.mark.long
@pytest.mark.parametrize("case", [case.name for case in [*CASES, *MORE]])
@pytest.mark.parametrize(("first", "then"), [(3, 2), (2, 3), (1, 3), (3, 1), (2, 1), (1, 2)])
def test_every_way_to_train_resizes(more: Path, case: str, first: int, then: int) -> None:
    assert_joined(more / case, first, then, loss=1e-4, move=0.01)


@pytest.mark.long
@pytest.mark.parametrize("case", [case.name for case in SPARING])
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_what_spares_memory_shows_in_no_loss(sparing: Path, case: str, first: int, then: int) -> None:
    assert_same_losses(sparing, case, then)
    assert_joined(sparing / case, first, then, loss=1e-4, move=0.01)


@pytest.mark.long
@pytest.mark.parametrize("case", [case.name for case in IN_BITS])
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_fewer_bits_train_much_the_same_and_resize(in_bits: Path, case: str, first: int, then: int) -> None:
    assert_joined(in_bits / case, first, then, loss=0.02, move=0.5)
    whole, first_step = ("zero2-lora", 0.2) if case.endswith("4bit") else ("zero2-full", 1e-4)
    plain, found = (read_json(in_bits / name / f"{then}-{then}" / "log.json") for name in (whole, case))
    assert [step["loss"] for step in found] != [step["loss"] for step in plain]
    assert found[0]["loss"] == pytest.approx(plain[0]["loss"], rel=first_step)
    assert found[-1]["loss"] - found[0]["loss"] == pytest.approx(plain[-1]["loss"] - plain[0]["loss"], rel=0.2)


@pytest.mark.long
@pytest.mark.parametrize("case", [case.name for case in [*CASES, *MORE]])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_way_to_train_exports(more: Path, case: str, size: int, tmp_path: Path, tiny_model: Path) -> None:
    assert_exported(tiny_model, more / case / f"{size}-{size}", tmp_path)


@pytest.mark.long
def test_a_model_with_an_output_layer_of_its_own_exports_at_any_zero_stage(
    train_all: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    base = untied(tiny_model, tmp_path / "base")
    cases = [Case(f"{s}-{lora}", EXACT | {"zero_stage": s, "lora": lora}) for s in range(4) for lora in (None, LORA)]
    trained = train_all(cases, [2], base)
    for case in cases:
        assert_exported(base, trained / case.name / "2-2", tmp_path / case.name)


@pytest.mark.long
@pytest.mark.parametrize("case", [case.name for case in HALF_PRECISION])
def test_half_precision_resizes_within_its_rounding(more: Path, case: str) -> None:
    assert_joined(more / case, 3, 1, loss=0.02, move=0.5)


@pytest.mark.long
def test_a_checkpoint_does_not_tell_its_zero_stage_or_workers(more: Path) -> None:
    one, *others = (state(more / f"zero{stage}-lora" / f"{n}-{n}" / "half") for stage, n in ((0, 1), (2, 2), (3, 3)))
    for other in others:
        assert one.keys() == other.keys()
        assert all((one[name] - other[name]).norm() <= 1e-3 * one[name].norm() for name in one)
