"""What a chat template cannot do is said before anything is read or started."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import s2d_ray
from s2d_ray.data.records import LabelledPrompt, Message, Prompt, assistant, user
from s2d_ray.errors import UserError
from s2d_ray.models import Model
from s2d_ray.recipes.load import overridden
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.rendering.renderer import Renderer
from s2d_ray.runs.chats import check_chats
from s2d_ray.runs.names import STAGES
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.task import Split, Task
from tests.rendering.families import TEMPLATES, tokenizer_of
from tests.stages.runs import write_corpus, write_recipe

SYSTEM: Message = {"role": "system", "content": "Be brief."}
TURNS = [user("Hello"), assistant("Hello.")]


class Chats(Task):
    """A question alone, and questions after a system message, or a turn of both, or neither."""

    system: bool = False
    turns: bool = False

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        before = [*([SYSTEM] if self.system else []), *(TURNS if self.turns else [])]
        for number in range(20):
            last = user(f"What is the number of case {number}?")
            yield LabelledPrompt(Prompt(f"case-{number}", [*(before if number else []), last]), (), "all")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text or None

    @property
    def source(self) -> str:
        return "the test"


def model_of(family: str, folder: Path) -> Model:
    """A model folder whose tokenizer is of that family; its weights are not read."""
    tokenizer_of(family).save_pretrained(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return Model.local("the-model", folder)


def check(family: str, folder: Path, *overrides: str, **forms: bool) -> None:
    """The model of a family, in a recipe whose prompts have these forms."""
    task: Any = Chats(**forms)
    recipe = Recipe(name="trial", model=str(folder), task=task, method=Named(name="s2a"))
    check_chats(resolve(recipe).with_settings(overridden(recipe, overrides)), model_of(family, folder))


def refusal(family: str, folder: Path, *overrides: str, **forms: bool) -> str:
    with pytest.raises(UserError) as caught:
        check(family, folder, *overrides, **forms)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", ["qwen3", "qwen3_5", "nemotron_3", "smollm3", "gpt_oss", "llama3", "magistral"])
def test_families_that_can_answer_at_once_pass_with_all_forms_of_a_chat(family: str, tmp_path: Path) -> None:
    check(family, tmp_path, system=True, turns=True)


def test_forms_that_the_task_does_not_have_are_not_asked_for(tmp_path: Path) -> None:
    check("gemma", tmp_path, turns=True)
    told = refusal("gemma", tmp_path, system=True)
    assert told == (
        "model the-model, prompt case-1: the chat template refuses this chat (System role not supported): "
        "set chat_template: FILE.jinja, one that takes it"
    )


@pytest.mark.parametrize("family", ["deepseek_r1_distill", "nemotron_2"])
def test_a_thought_left_open_is_refused_until_a_template_closes_it(family: str, tmp_path: Path) -> None:
    assert "leaves a thought open" in refusal(family, tmp_path)
    own = (TEMPLATES / f"{family}.jinja").read_text()
    closing = tmp_path / "closing.jinja"
    closing.write_text(own.replace("<think>\\n", "<think>\\n\\n</think>\\n\\n"))
    check(family, tmp_path, f"chat_template={closing}")


def test_system_1_that_is_told_to_think_inside_its_prompt_is_refused(tmp_path: Path) -> None:
    told = refusal("qwen3_5", tmp_path, "template.enable_thinking=true")
    assert "set template: {enable_thinking: false}" in told


@pytest.mark.parametrize(
    "override",
    [
        "method.thinking=true",
        "method=think",
        "evaluate.method.thinking=true",
        "evaluate.also=[think]",
        "evaluate.judge={method: {name: direct, thinking: true}}",
    ],
)
def test_a_model_that_knows_no_thinking_is_not_asked_to_think(override: str, tmp_path: Path) -> None:
    told = refusal("llama3", tmp_path, override)
    assert "the-model cannot think: its chat template has no switch for it" in told
    check("qwen3", tmp_path, override)


@pytest.mark.parametrize("override", ["template.enable_thinking=true", "method.template={enable_thinking: true}"])
def test_a_switch_that_the_template_does_not_have_is_refused(override: str, tmp_path: Path) -> None:
    assert refusal("llama3", tmp_path, override).endswith("the-model reads: it has no switch for thinking")
    assert refusal("deepseek_v3_1", tmp_path, override).endswith("its switch for thinking is thinking")
    check("qwen3", tmp_path, override)
    check("llama3", tmp_path, override.replace("true", "false"))


def test_what_a_method_tells_the_template_is_looked_at_too(tmp_path: Path) -> None:
    told = refusal("gpt_oss", tmp_path, "method.template={reasoning_effort: 5}")
    assert "prompt case-0: the chat template refuses this chat (can only concatenate str" in told
    assert "messages is not for a recipe to say" in refusal("gpt_oss", tmp_path, "method.template={messages: 5}")
    check("gpt_oss", tmp_path, "method={name: 'tests.scripts:ask_twice', template: some words}")


def test_a_tokenizer_that_cannot_be_loaded_is_one_line(unread_model: Path) -> None:
    with pytest.raises(UserError, match=rf"^the tokenizer of {unread_model} cannot be loaded \([^\n]+\)$"):
        Renderer.load(unread_model, trust_remote_code=False)


def test_no_chat_template_is_refused_and_a_script_needs_none(tmp_path: Path) -> None:
    model = model_of("deepseek_r1_distill", tmp_path / "model")
    file = write_recipe(tmp_path, tmp_path / "model", write_corpus(tmp_path / "corpus.jsonl", 20))
    scripted = resolve(s2d_ray.load_recipe(str(file)))
    for stages, told in ((["generate"], False), (["generate", "train"], True)):
        with pytest.raises(UserError, match="leaves a thought open") if told else nullcontext():
            check_chats(scripted, model, stages)
    (tmp_path / "model" / "chat_template.jinja").unlink()
    check_chats(scripted, model, STAGES)
    run = s2d_ray.Run(file, {"engine.kind": "vllm"}, root=tmp_path / "runs")
    with pytest.raises(UserError, match=r"^the model has no chat template: set chat_template: FILE.jinja$"):
        run.execute()
    assert not run.folders.prompts.exists()
    with pytest.raises(UserError, match="no chat template"):
        run.ask("What is the number of case 3?")
