"""Ray Train with two DeepSpeed workers on a tiny model: one loss whatever the workers, a checkpoint, an export."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.artifacts import Artifact
from s2d_ray.data.files import read_json, read_json_lines
from s2d_ray.data.folders import TRAINING_LOG
from s2d_ray.data.manifests import DistilledManifest, ModelManifest
from s2d_ray.data.records import assistant, user
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.recipes.sections import Train
from s2d_ray.rendering.renderer import Renderer
from tests.manifests import distilled_manifest
from tests.training.trial import distilled, letters, recipe, trained

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> Any:
    return trained(tmp_path_factory.mktemp("two"), tiny_model, workers=2)


def test_two_workers_learn(two_workers: Any) -> None:
    _, log = two_workers
    assert [entry["step"] for entry in log] == list(range(1, 13))
    assert log[-1]["loss"] < log[0]["loss"] - 0.2


def test_the_loss_does_not_depend_on_the_number_of_workers(
    two_workers: Any, tmp_path: Path, tiny_model: Path, local_ray: None
) -> None:
    _, log = two_workers
    _, single = trained(tmp_path, tiny_model, workers=1)
    for one, two in zip(single, log, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=0.05)


def test_the_export_loads_in_transformers_and_peft(two_workers: Any, tiny_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _ = two_workers
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.apply_chat_template(
        [user("What is the letter of case 1?")], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    with torch.no_grad():
        from_merged, from_adapter = merged(tokens).logits, adapted(tokens).logits
        with adapted.disable_adapter():
            from_base = adapted(tokens).logits
    learnt, lost = (from_adapter - from_base).norm(), (from_merged - from_adapter).norm()
    assert learnt > 0.1 * from_base.norm(), "the export does not differ from the base model"
    assert lost < 0.1 * learnt, "more than bfloat16 rounds away"


@pytest.mark.parametrize("lora", [{"rank": 4}, pytest.param(None, marks=pytest.mark.long)])
def test_zero_3_shards_and_exports(lora: Any, tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    from safetensors.torch import load_file

    folder, log = trained(tmp_path, tiny_model, workers=2, zero_stage=3, lora=lora, epochs=1, learning_rate=3e-3)
    assert log[-1]["loss"] < log[0]["loss"]
    before, after = load_file(tiny_model / "model.safetensors"), load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert before[name].shape == after[name].shape
    assert not before[name].equal(after[name])


def test_pairs_of_several_sets_are_all_there_even_where_ids_coincide(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    from s2d_ray.training.job import Pairs, TrainJob, load_pairs

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    files = [sorted(distilled(tmp_path / name, rows).path.glob("*/*.parquet")) for name, rows in (("a", 6), ("b", 9))]

    def ids(*most: int | None) -> list[str]:
        pairs = [Pairs(found, limit) for found, limit in zip(files, most, strict=True)]
        job = TrainJob(recipe(tiny_model).train, 0, tiny_model, False, pairs, tmp_path)
        return list(load_pairs(job, Renderer(tokenizer))["prompt_id"])

    first, second = [f"{i:03}" for i in range(6)], [f"{i:03}" for i in range(9)]
    assert ids(None, None) == first + second
    assert ids(2, 50) == first[:2] + second


@pytest.mark.parametrize(
    ("attention", "device"), [("sdpa", "cpu"), ("eager", "cpu"), pytest.param("sdpa", "cuda", marks=pytest.mark.gpu)]
)
def test_packed_examples_do_not_see_each_other(attention: str, device: str, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation=attention)
    packed, apart = packed_and_apart(model.to(device), tokenizer)
    assert torch.allclose(packed, apart, atol=1e-4)


def test_sdpa_is_the_attention_of_training(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tiny_model).config._attn_implementation == "sdpa"


def test_recurrent_layers_would_see_all_of_a_row_and_are_refused_it(tiny_model: Path) -> None:
    import torch
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    from s2d_ray.training.model import check_packable

    config = MambaConfig(vocab_size=384, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.3)
    model = MambaForCausalLM(config)
    packed, apart = packed_and_apart(model, AutoTokenizer.from_pretrained(tiny_model))
    assert not torch.allclose(packed, apart, atol=1e-4)
    for packing in (Train(micro_batch_size=2), Train(micro_batch_size=1, micro_batch_tokens=64)):
        with pytest.raises(UserError, match=r"MambaForCausalLM has recurrent layers.*set train.micro_batch_size=1"):
            check_packable(model, packing)
    check_packable(model, Train(micro_batch_size=1))


def packed_and_apart(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The logits of three examples in one row, and in a row each."""
    import torch

    from s2d_ray.training.encoding import Packed, encode, pack

    renderer = Renderer(tokenizer)
    examples = [encode([user(f"What is the letter of case {i}?"), assistant("abc"[i])], renderer) for i in range(3)]

    def logits(row: Packed) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(
                input_ids=torch.tensor([row.input_ids], device=model.device),
                position_ids=torch.tensor([row.position_ids], device=model.device),
                use_cache=False,
            ).logits[0]
        return found[row.predicting]

    return logits(pack(examples)), torch.cat([logits(pack([example])) for example in examples])


def test_the_log_is_json_lines(two_workers: Any) -> None:
    folder, _ = two_workers
    for line in (folder / TRAINING_LOG).read_text().splitlines():
        entry = json.loads(line)
        assert {"step", "loss", "learning_rate", "tokens", "workers", "seconds"} <= entry.keys()
        assert entry["padding"] == 0
    manifest = read_json(folder / "manifest.json")
    assert manifest["padded_share"] == 0.0
    assert manifest["steps_by_workers"] == {"2": 12}


def test_fewer_examples_than_a_batch_are_trained_on_in_exactly_the_steps_asked_for(
    tmp_path: Path, tiny_model: Path, local_ray: None
) -> None:
    """Four passes over three examples would be two steps of eight."""
    folder, log = trained(tmp_path, tiny_model, rows=3, workers=2, epochs=4, steps=3)
    assert len(log) == 3
    assert read_json(folder / "manifest.json")["examples"] == 3
    assert (folder / "model.safetensors").exists()


def test_an_empty_set_is_passed_over_in_one_line(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from s2d_ray.stages.train import Source
    from s2d_ray.stages.train import train as run

    empty = Artifact(tmp_path / "distilled", {"made": "by hand"}, DistilledManifest)
    empty.open()
    empty.finish(distilled_manifest(rows=5, rejected={"no majority": 5}))
    made = Artifact(tmp_path / "model", {"made": "by a test"}, ModelManifest)
    for _ in range(2):  # Finished the second time, and silent.
        run(recipe(tiny_model), Model.local("tiny", tiny_model), [Source("", empty, None)], made, "train", None)
    told = "Curation kept none of 5 prompts, so there is nothing to train on: 5 rejected (no majority 5)."
    assert capsys.readouterr().out == f"  train: {told}\n"
    assert made.manifest.skipped == told
    assert [path.name for path in sorted(made.path.iterdir())] == ["inputs.json", "manifest.json"]


@pytest.fixture(scope="module")
def by_time(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> tuple[list[str], str]:
    """What four steps with a checkpoint due after each, by time, leave of checkpoints; and what is printed.

    The folder had those of a training in another order. Nothing is removed in the end.
    """
    from s2d_ray.data.storage import remove
    from s2d_ray.stages.train import STATE
    from s2d_ray.terminal import console

    folder, printed = tmp_path_factory.mktemp("by-time"), StringIO()
    (folder / "model" / "_train" / "checkpoint_1").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2d_ray.stages.train.remove", lambda path: None if path.name == STATE else remove(path))
        patch.setattr(console, "file", printed)
        trained(folder, tiny_model, rows=8, workers=2, checkpoint_minutes=0, checkpoint_steps=99, keep_checkpoints=9)
    left = (folder / "model").glob("_train*/checkpoint_*")
    return [path.parent.name for path in left if path.is_dir()], printed.getvalue()


def test_checkpoints_are_made_by_time_where_that_is_asked_for(by_time: tuple[list[str], str]) -> None:
    made, _ = by_time
    assert len(made) == 4


def test_a_training_in_another_order_begins_anew_and_says_so(by_time: tuple[list[str], str]) -> None:
    made, printed = by_time
    assert "_train" not in made
    assert "  train: begins anew, its examples came in the order of another version\n" in printed


@pytest.fixture(scope="module")
def with_state(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, local_ray: None) -> Path:
    """The folder of a model as a training leaves it that ends just before its manifest."""
    folder = tmp_path_factory.mktemp("with-state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2d_ray.stages.train.remove", lambda path: None)
        model, _ = trained(folder, tiny_model)
    (model / "manifest.json").unlink()
    return model


@pytest.mark.long
@pytest.mark.parametrize(
    "cut", ["", "checkpoint_manager_snapshot.json", "checkpoint_2*/state-0-0.safetensors", "checkpoint_2*/steps.json"]
)
def test_a_checkpoint_that_a_loss_of_power_cut_off_is_not_gone_on_from(
    with_state: Path, cut: str, tmp_path: Path, tiny_model: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from s2d_ray.stages.train import STATE

    shutil.copytree(with_state, tmp_path / "model")
    for file in (tmp_path / "model" / STATE).glob(cut) if cut else ():
        file.write_bytes(file.read_bytes()[:7])
    before = read_json_lines(with_state / TRAINING_LOG)
    _, log = trained(tmp_path, tiny_model)
    said = "  train: begins anew, its last checkpoint was cut off half way\n" in capsys.readouterr().out
    assert said is bool(cut)
    assert [entry["step"] for entry in log] == [entry["step"] for entry in before]
    assert (log == before) is not bool(cut)


@pytest.mark.parametrize("record", ["{}", "[]", "null", '{"latest_checkpoint_result": {}}'])
def test_a_record_of_checkpoints_that_holds_something_else_is_not_gone_on_from(record: str, tmp_path: Path) -> None:
    from s2d_ray.stages.train import _can_be_gone_on_from

    (tmp_path / "checkpoint_manager_snapshot.json").write_text(record)
    assert not _can_be_gone_on_from(tmp_path)


@pytest.mark.long
def test_passes_are_over_the_pairs_that_are_trained_on(tmp_path: Path, tiny_model: Path, local_ray: None) -> None:
    from s2d_ray.training.encoding import encode

    renderer = Renderer.load(tiny_model, False)
    lengths = [
        len(encode([user(f"What is the letter of case {i}?"), assistant(letters(i))], renderer)) for i in range(24)
    ]
    most = sorted(lengths)[11]
    fitting = sum(length <= most for length in lengths)
    assert fitting < 20
    folder, log = trained(tmp_path, tiny_model, epochs=2, batch_size=4, max_length=most)
    assert len(log) == round(2 * fitting / 4)
    manifest = read_json(folder / "manifest.json")
    assert (manifest["examples"], manifest["left_out_too_long"]) == (fitting, 24 - fitting)


@pytest.mark.long
def test_no_checkpoint_is_made_before_its_time_but_at_the_end(
    tmp_path: Path, tiny_model: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2d_ray.stages.train.remove", lambda path: None)
    folder, _ = trained(tmp_path, tiny_model, rows=8, checkpoint_minutes=60, checkpoint_steps=1, keep_checkpoints=9)
    assert len([path for path in folder.glob("_train*/checkpoint_*") if path.is_dir()]) == 1
