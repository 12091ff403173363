"""The export of one worker, of models that are stored in several ways; test_resize has several workers with ZeRO."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2d_ray.data.files import read_json, write_json
from s2d_ray.data.records import user
from s2d_ray.errors import UserError
from s2d_ray.recipes.chat import DEFAULT_CHAT, Chat
from s2d_ray.rendering.renderer import Renderer
from tests.tiny_model import THINKING_TEMPLATE, make_thinking_model
from tests.training.exported import assert_same, by_peft, by_transformers, weights
from tests.training.trial import recipe, untied

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True, scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import torch

    rendezvous = tmp_path_factory.mktemp("workers") / "rendezvous"
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def mixture_of_experts(tiny_model: Path, folder: Path) -> Path:
    """A model in float32 whose experts are a tensor each in its files, and one tensor for all in memory."""
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(params=["tied", "untied", "experts"])
def base(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """Folder of a model whose output layer is its embedding, or not, or which has experts."""
    if request.param == "tied":
        return tiny_model
    return {"untied": untied, "experts": mixture_of_experts}[request.param](tiny_model, tmp_path / "base")


def export_of(
    base: Path, lora: dict[str, Any] | None, chat: Chat = DEFAULT_CHAT, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """The model of the folder with other weights, as a training would leave them, and its export."""
    import torch
    from transformers import AutoModelForCausalLM

    from s2d_ray.training.export import Export
    from s2d_ray.training.job import TrainJob
    from s2d_ray.training.model import adapted

    settings = recipe(base, lora=lora).train
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=trust_remote_code)
    model = adapted(plain, settings.lora, 0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    job = TrainJob(settings, 0, base, trust_remote_code, [], base)
    return model, Export(job, model, Renderer.load(base, trust_remote_code, chat))


def with_code_of_its_own(tiny_model: Path, folder: Path) -> Path:
    """A model of a kind that transformers does not know: its folder has the code."""
    shutil.copytree(tiny_model, folder)
    (folder / "configuration_own.py").write_text(
        'from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = "own"\n'
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config = read_json(folder / "config.json") | {"model_type": "own", "architectures": ["OwnForCausalLM"]}
    write_json(folder / "config.json", config | {"auto_map": own})
    return folder


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_model_with_code_of_its_own_is_written_with_it(
    tiny_model: Path, lora: dict[str, Any] | None, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base = with_code_of_its_own(tiny_model, tmp_path / "base")
    _, export = export_of(base, lora, trust_remote_code=True)
    export.write(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert type(again).__name__ == "OwnForCausalLM"
    assert (tmp_path / "model" / "modeling_own.py").read_bytes() == (base / "modeling_own.py").read_bytes()
    assert read_json(tmp_path / "model" / "config.json")["auto_map"] == read_json(base / "config.json")["auto_map"]
    assert (tmp_path / "model" / "adapter").is_dir() is bool(lora)


@pytest.mark.parametrize("file_bytes", [2**40, 2**15])
def test_a_fine_tuned_model_is_written_as_transformers_does(base: Path, file_bytes: int, tmp_path: Path) -> None:
    model, export = export_of(base, lora=None)
    export.write(tmp_path / "model", file_bytes)
    assert_same(tmp_path / "model", by_transformers(base, model.state_dict(), tmp_path / "expected"))


@pytest.mark.parametrize("file_bytes", [2**40, 2**15])
def test_an_adapter_is_merged_as_peft_does(base: Path, file_bytes: int, tmp_path: Path) -> None:
    _, export = export_of(base, lora={"rank": 3, "alpha": 5})
    export.write(tmp_path / "model", file_bytes)
    expected = by_peft(base, tmp_path / "model" / "adapter", tmp_path / "expected")
    assert_same(tmp_path / "model", expected)
    before, after = weights(base), weights(tmp_path / "model")
    assert any(not after[name].equal(before[name]) for name in before), "nothing was added"


def test_files_are_of_the_size_asked_for_and_load_as_one_model(tmp_path: Path, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, export = export_of(tiny_model, lora=None)
    export.write(tmp_path, 2**17)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [file.name for file in files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert max(file.stat().st_size for file in files) < 2**17 + 2**12
    total = sum(tensor.nbytes for tensor in weights(tmp_path).values())
    assert read_json(tmp_path / "model.safetensors.index.json")["metadata"]["total_size"] == total
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.to(torch.bfloat16).float()), name
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


def test_told_nothing_an_exported_model_is_asked_and_stops_as_in_its_training(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    base = make_thinking_model(tmp_path / "base")
    chat = Chat(template=THINKING_TEMPLATE + "{{ '' if brief else ' at length' }}", arguments={"brief": True})
    _, export = export_of(base, lora=None, chat=chat)
    export.write(tmp_path / "model")
    renderer, exported = Renderer.load(base, False, chat), AutoTokenizer.from_pretrained(tmp_path / "model")
    question = [user("Where is Lyon?")]
    tokens = exported.apply_chat_template(question, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert tokens == renderer.prompt(question).tokens
    assert exported.decode(tokens).endswith("assistant\n<think></think>")
    ends = GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id
    assert ends == [exported.eos_token_id, renderer.end]
    assert exported.eos_token_id != renderer.end


def test_an_adapter_that_has_no_tensor_to_be_added_to_is_refused_before_the_training(
    tmp_path: Path, tiny_model: Path
) -> None:
    from safetensors.torch import save_file

    base = untied(tiny_model, tmp_path / "base")
    stored = weights(base)
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"layers.1.mlp.up_proj.weight has an adapter, which cannot be added"):
        export_of(base, lora={"rank": 2})


def test_an_adapter_on_quantised_files_is_refused_before_the_training(tmp_path: Path, tiny_model: Path) -> None:
    import torch
    from safetensors.torch import save_file

    base = untied(tiny_model, tmp_path / "base")
    stored = weights(base)
    stored["model.layers.1.mlp.up_proj.weight"] = stored["model.layers.1.mlp.up_proj.weight"].to(torch.float8_e4m3fn)
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"up_proj.weight of .*/base is quantised"):
        export_of(base, lora={"rank": 2})
