"""`s2d ask`: every step of both systems for one prompt, and of the distilled model once there is one."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from s2d_ray.cli import app
from s2d_ray.cli.replies import show_replies
from s2d_ray.data.folders import RunFolders, writable
from s2d_ray.data.manifests import ModelManifest
from s2d_ray.data.records import Completion, Message, Prompt, Step, user
from s2d_ray.inference.engine import EngineDied, EngineError
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.method import GenerateFunction
from s2d_ray.recipes.chat import Chat
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.runs.ask import Reply
from s2d_ray.runs.graph import make_plans
from s2d_ray.runs.pipeline import STAGES, ingest, prepare
from s2d_ray.runs.resolved import resolve
from s2d_ray.tasks.registry import load_task
from tests.hybrid_engine import HybridEngine
from tests.manifests import finish
from tests.method_runs import Reply as Script
from tests.method_runs import engine_that_says
from tests.read_only import read_only

QUESTION = "Which country is the city of Lyon in? I think the answer is Peru."
REWRITTEN = "Which country is the city of Lyon in?"


def model(turns: list[str]) -> str:
    """Rewrites as it should, and takes over any opinion in the question that it is asked."""
    if turns[-1].startswith("Rewrite"):
        return f"{REWRITTEN}\nand more"
    return "It is in Peru." if "Peru" in turns[-1] else "Lyon is in France."


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that has the files of a model; the scripted engine reads none of them."""
    return write_model(tmp_path / "base")


def write_model(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def overrides(base: Path) -> list[str]:
    # A format that is named need not be chosen, which takes a process with torch.
    settings = ["limit=300", "generate.samples=4", "train.epochs=2", "engine.dtype=float32"]
    return [f"model={base}", "engine.kind=scripted", "engine.script=tests.method_runs:script", *settings]


def ask(base: Path, script: Script, *arguments: str, recipe: str = "s2a-geonames") -> Result:
    engine_that_says(script)
    return CliRunner().invoke(app, ["ask", recipe, *overrides(base), *arguments])


def replies(result: Result) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    given: list[dict[str, Any]] = json.loads(result.stdout)["replies"]
    return given


def refused(result: Result, code: int = 1) -> str:
    """The one line on stderr of a command that failed."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (code, "")
    [said] = result.stderr.splitlines()
    return said.removeprefix("s2d: ")


def test_both_systems_are_shown_with_every_step(base: Path) -> None:
    result = ask(base, model, QUESTION)
    assert (result.exit_code, result.stderr) == (0, "")
    shown = result.stdout
    asked, _, answered = shown.partition("System 1 (base)\n")
    system1, system2 = answered.split("System 2\n")
    assert asked.strip() == QUESTION
    for part in (f"direct of {base}", "answer (4 tokens, ", "It is in Peru.", "Answer: Peru"):
        assert part in system1
    for part in (f"s2a of {base}", "rewrite (8 tokens, ", f"\n{REWRITTEN}\n", "respond (4 tokens, ", "Answer: France"):
        assert part in system2
    assert re.search(r"\n4 tokens, \d+\.\d+ s in all\n", system1)
    assert "12 tokens, " in system2.partition("Answer: France")[2], "of both steps"
    assert system2.index("rewrite") < system2.index("respond") < system2.index("Answer:")
    assert "\x1b" not in shown
    assert "Distilled" not in shown


def test_programs_get_json_and_nothing_else(base: Path) -> None:
    result = ask(base, model, "--json", QUESTION)
    system1, system2 = replies(result)
    content = json.loads(result.stdout)
    assert content["recipe"] == "s2a-geonames"
    assert content["prompt"]["messages"] == [{"role": "user", "content": QUESTION}]
    assert (system1["arm"], system1["method"], system1["answer"], system1["tokens"]) == ("base", "direct", "Peru", 4)
    assert (system2["arm"], system2["method"], system2["answer"], system2["tokens"]) == ("teacher", "s2a", "France", 12)
    assert [step["name"] for step in system2["steps"]] == ["rewrite", "respond"]
    assert sum(step["completion_tokens"] for step in system2["steps"]) == 12
    assert sum(step["seconds"] for step in system2["steps"]) <= system2["seconds"] < 10


class ThinkingEngine(ScriptedEngine):
    """In front of a model that thinks where it is told to."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        return await HybridEngine(thinks).complete(messages, sampling, n, seed)


def thinks(messages: Sequence[Message], random: Random, thinking: bool) -> str:
    return "<think>Is Lyon\x1b in Peru?</think>\n\nNo: France." if thinking else "It is in Peru."


async def start_thinking(config: Engine, *_: object, **more: object) -> ThinkingEngine:
    return ThinkingEngine(config)


def test_a_thought_is_shown_apart_from_the_text_and_counted(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2d_ray.runs.ask.start_engine", start_thinking)
    system1, system2 = replies(ask(base, model, "--json", QUESTION, "method=think"))
    assert (system1["answer"], system1["steps"][0]["thought"], system1["tokens"]) == ("Peru", "", 4)
    assert (system2["answer"], system2["text"].strip(), system2["tokens"]) == ("France", "No: France.", 5)
    assert system2["steps"][0]["thought"] == "Is Lyon\x1b in Peru?"
    system1_shown, system2_shown = ask(base, model, QUESTION, "method=think").stdout.split("System 2\n")
    assert "thought:" not in system1_shown
    assert re.search(
        r"think \(5 tokens, .*\)\nthought: Is Lyon\N{REPLACEMENT CHARACTER} in Peru\?\n\nNo: France", system2_shown
    )


CHAT = [{"role": "system", "content": "Be short."}, user("Hello"), {"role": "assistant", "content": "Hi."}]


@pytest.mark.parametrize("whole", [False, True])
def test_a_chat_from_a_file_is_asked_with_its_question(base: Path, tmp_path: Path, whole: bool) -> None:
    """The question is the last turn of the file, or given beside it."""
    file = tmp_path / "chat.json"
    file.write_text(json.dumps({"messages": [*CHAT, user(QUESTION)]} if whole else CHAT))
    arguments = ["--chat", str(file), *([] if whole else [f" {QUESTION} "])]
    result = ask(base, lambda turns: f"France {len(turns)}", "--json", *arguments, "method.prompts=zero_shot")
    assert json.loads(result.stdout)["prompt"]["messages"] == [*CHAT, user(QUESTION)]
    system1, _ = replies(result)
    assert system1["text"] == "France 4"
    shown = ask(base, model, *arguments).stdout
    assert shown.startswith(f"System: Be short.\n\nUser: Hello\n\nAssistant: Hi.\n\nUser: {QUESTION}\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is no chat (Expecting value: line 1 column 2 (char 1)): write [{"),
        ("7", "is no chat (chat holds something else than turns): write [{"),
        ('{"turns": []}', "is no chat (no chat): write [{"),
        ('["Hello"]', "is no chat (chat holds something else than turns): write [{"),
        ('[{"role": "user"}]', "is no chat (no text in a turn by the user): write [{"),
        ('[{"role": "user", "content": null}]', "is no chat (no text in a turn by the user): write [{"),
        ('[{"role": "tool", "content": "7"}]', "is no chat (a turn by a tool): write [{"),
        ('[{"role": "assistant", "content": "Hi."}]', "its last message must be the user's"),
        ('[{"role": "user", "content": " "}]', "is no chat (no text in a turn by the user): write [{"),
        ("[]", "is no chat (no chat): write [{"),
        (None, "chat.json: No such file"),
    ],
)
def test_a_file_that_is_no_chat_is_one_line(base: Path, tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "chat.json"
    if content is not None:
        file.write_text(content)
    assert said in refused(ask(base, model, "--chat", str(file)))


def test_without_a_question_a_held_out_prompt_is_asked(base: Path) -> None:
    result = ask(base, model, "--json")
    recipe = load_single_recipe("s2a-geonames")
    held_out = [item.prompt.text for item in load_task(recipe.task).items("test", recipe.seed)]
    assert json.loads(result.stdout)["prompt"]["messages"] == [user(held_out[0])]


def test_further_methods_of_the_evaluation_are_not_asked(base: Path) -> None:
    shown = ask(base, lambda turns: "rb", "Edgar Bob", recipe="rar-last-letter-small").stdout
    assert shown.count("\nSystem ") == 2
    assert shown.count("Answer: rb") == 2


def test_a_pair_is_judged_as_in_evaluation(base: Path) -> None:
    def judge(turns: list[str]) -> str:
        return "A: 1\nB: 5" if "Criterion:" in turns[-1] else "1. Correctness: it is right"

    pair = json.dumps({"question": "What is 2 + 2?", "response_a": "5", "response_b": "4"})
    system1, system2 = replies(ask(base, judge, "--json", pair, recipe="bsm-judge-small"))
    assert system1["answer"] is None
    assert [step["name"] for step in system2["steps"]] == ["branch", "solve 1", "solve 1 swapped"]
    assert system2["answer"] == "tie", "the second response wins in both orders"


def test_malformed_output_is_shown_with_its_reason(base: Path) -> None:
    def silent(turns: list[str]) -> str:
        return "" if turns[-1].startswith("Rewrite") else "I cannot say."

    system1, system2 = replies(ask(base, silent, "--json", QUESTION))
    assert (system1["answer"], system1["error"]) == (None, "")
    assert (system2["answer"], system2["error"], system2["tokens"]) == (None, "the rewrite is empty", 0)
    shown = ask(base, silent, QUESTION).stdout
    assert "Answer: none (the text gives none)" in shown
    assert "Answer: none (the rewrite is empty)" in shown
    assert "(nothing)" in shown


def test_a_text_that_was_cut_says_so(base: Path) -> None:
    shown = ask(base, lambda turns: "so " * 50, QUESTION, "evaluate.sampling.max_tokens=7").stdout
    assert re.search(r"answer \(7 tokens, \d\.\d\d s, cut by the token limit\)", shown)
    assert "Answer: none (the rewrite was cut by the token limit)" in shown


def test_a_request_that_the_engine_refuses_leaves_the_other_side(base: Path) -> None:
    def short(turns: list[str]) -> str:
        if len(turns) > 1:
            raise EngineError("the prompt has 900 tokens; max_model_len is 768")
        return model(turns)

    system1, system2 = replies(ask(base, short, "--json", QUESTION))
    assert system1["answer"] == "Peru"
    assert (system2["answer"], system2["error"]) == (None, "the prompt has 900 tokens; max_model_len is 768")


def test_an_engine_that_dies_is_one_line_that_names_the_log(base: Path, tmp_path: Path) -> None:
    def dying(turns: list[str]) -> str:
        os.write(1, b"a library's last words\n")
        raise EngineDied("the engine process has ended")

    said = refused(ask(base, dying, QUESTION, "--root", "results"))
    log = tmp_path / "results" / "s2a-geonames" / "logs" / "ask.log"
    assert said == f"the engine is gone (the engine process has ended): what it said is in {log}"
    assert log.read_text() == "a library's last words\n"


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_engine_that_does_not_start_is_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    async def start(*_: object, **more: object) -> None:
        if interrupted:  # Ctrl-C ends the engine's own processes, which then looks like a failed start.
            os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("Engine core initialization failed.\nSee above.")

    monkeypatch.setattr("s2d_ray.runs.ask.start_engine", start)
    result = ask(base, model, QUESTION)
    if interrupted:
        assert refused(result, 130) == "stopped"
    else:
        said = "the engine is gone (it did not start: Engine core initialization failed. See above.)"
        assert refused(result).startswith(f"{said}: what it said is in {tmp_path}")


async def unsound(prompt: Prompt, generate: GenerateFunction) -> str:
    raise KeyError("plan")


def test_a_method_that_fails_is_one_line_and_its_traceback_with_debug(base: Path) -> None:
    arguments = [QUESTION, f"method={__name__}:unsound"]
    said = refused(ask(base, model, *arguments))
    assert said == f"method {__name__}:unsound failed (KeyError: 'plan'); see --debug"
    assert "in unsound" in ask(base, model, *arguments, "--debug").stderr


@pytest.mark.parametrize(
    ("recipe", "arguments", "said"),
    [
        ("s2a-geonames", ["Where is Lyon?"], "task geonames asks for a country, a US state or a capital"),
        ("bsm-judge-small", ["A or B?"], "task judge compares two responses"),
        ("s2a-geonames", ["Which", "country?"], "in quotes, as one word of the command: 'Which country?'"),
        ("s2a-geonames", [" "], "the question is empty"),
        ("s2a-geonames", ["sed=1"], "unknown key sed: did you mean seed?"),
        (
            "s2a-geonames",
            [QUESTION, "method=bsm"],
            "s2d: method bsm judges pairs of responses: the task gives no question",
        ),
        ("s2a-geonames", [QUESTION, "model=./nowhere"], "no model folder ./nowhere"),
    ],
)
def test_what_cannot_be_asked_is_one_line(base: Path, recipe: str, arguments: list[str], said: str) -> None:
    engine_that_says(model)
    arguments = ["ask", recipe, *overrides(base), *arguments]
    assert said in f"s2d: {refused(CliRunner().invoke(app, arguments))}"


def test_questions_and_overrides_are_told_apart(base: Path) -> None:
    def sums(turns: list[str]) -> str:
        return "The answer is 7"

    question = "x=5 and y=2. What is x + y?"
    result = ask(
        base, sums, "--json", "seed=3", question, "curate.rules=[majority, unfiltered]", recipe="cot-gsm8k-small"
    )
    assert [reply["answer"] for reply in replies(result)] == ["7", "7"]
    assert json.loads(result.stdout)["prompt"]["fields"] == {"bare": question}


def finish_a_run(base: Path, root: Path, *extra: str) -> RunFolders:
    """The folders that a run to the end of training leaves, as far as `ask` looks at them."""
    recipe = load_single_recipe("s2a-geonames", [*overrides(base), *extra])
    folders = RunFolders(root / recipe.name)
    ingest(resolve(recipe), folders)
    [plan] = prepare(resolve(recipe), folders, list(STAGES))
    for stage in ("generate", "curate", "train"):
        finish(plan.artifacts(stage)[0])
    write_model(folders.model)
    return folders


def test_the_distilled_model_is_a_third_reply(base: Path, tmp_path: Path) -> None:
    folders = finish_a_run(base, tmp_path / "runs")
    before = sorted(folders.base.rglob("*"))
    system1, _, distilled = replies(ask(base, model, "--json", QUESTION))
    assert (distilled["arm"], distilled["method"]) == ("student", "direct")
    assert (distilled["model"], distilled["note"]) == (f"{base}, distilled", "trained on 166 pairs")
    assert system1["note"] == ""
    assert "Distilled System 1\n" in ask(base, model, QUESTION).stdout
    assert set(folders.base.rglob("*")) - set(before) == {folders.logs, folders.logs / "ask.log"}


def test_a_results_folder_that_is_read_only_can_be_asked_and_its_log_is_elsewhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = finish_a_run(base, tmp_path / "runs")
    monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
    with read_only(tmp_path / "runs"):
        *_, distilled = replies(ask(base, model, "--json", QUESTION))
        assert distilled["arm"] == "student"
        assert folders.logs.is_relative_to(tmp_path / "cache")
        assert (folders.logs / "ask.log").is_file()
        assert not writable(folders.serving)
    assert writable(folders.serving) and folders.logs.is_relative_to(folders.base)


class LoggedEngine(ScriptedEngine):
    """Writes down which model answers, and its end."""

    def __init__(self, config: Engine, model: Path, log: list[str]) -> None:
        super().__init__(config)
        self._model, self._log = model.name, log

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        self._log.append(self._model)
        return await super().complete(messages, sampling, n, seed)

    async def load(self, model: Path) -> None:
        self._model = model.name

    def close(self) -> None:
        self._log.append("closed")


@pytest.mark.parametrize("fails", [False, True])
def test_each_arm_is_asked_on_its_model_and_the_engine_is_closed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    log: list[str] = []

    async def start(config: Engine, model: Path, _: bool, chat: Chat) -> LoggedEngine:
        return LoggedEngine(config, model, log)

    monkeypatch.setattr("s2d_ray.runs.ask.start_engine", start)
    finish_a_run(base, tmp_path / "runs")
    ask(base, model, QUESTION, *([f"method={__name__}:unsound"] if fails else []))
    assert log == (["base", "closed"] if fails else ["base", "base", "base", "model", "closed"])


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        ("generate.samples=9", "samples: 4 there, 9 now"),
        ("train.epochs=9", "train.epochs: 2.0 there, 9.0 now"),
        ("limit=9", "limit: 300 there, 9 now"),
        ("curate.rules=[unfiltered]", "rules: "),
    ],
)
def test_a_model_of_another_recipe_says_how_it_differs(base: Path, tmp_path: Path, now: str, difference: str) -> None:
    finish_a_run(base, tmp_path / "runs")
    *_, distilled = replies(ask(base, model, "--json", QUESTION, now))
    assert distilled["note"].startswith(f"trained on 166 pairs, by another recipe than this one: {difference}")


def test_a_model_made_from_results_that_were_replaced_says_so(base: Path, tmp_path: Path) -> None:
    other, folders = finish_a_run(base, tmp_path / "other", "seed=9"), finish_a_run(base, tmp_path / "runs")
    folders.model.rename(tmp_path / "aside")
    other.model.rename(folders.model)
    *_, distilled = replies(ask(base, model, "--json", QUESTION))
    assert "by another recipe than this one: distilled: " in distilled["note"]


def test_a_run_that_had_nothing_to_train_on_left_no_model(base: Path, tmp_path: Path) -> None:
    folders = finish_a_run(base, tmp_path / "runs")
    [plan] = make_plans(resolve(load_single_recipe("s2a-geonames", overrides(base))), folders)
    plan.trainings[0].model.finish(ModelManifest(skipped="nothing was kept", seconds=0.0))
    assert [reply["arm"] for reply in replies(ask(base, model, "--json", QUESTION))] == ["base", "teacher"]


@pytest.mark.parametrize("missing", ["model", "prompts"])
def test_an_unfinished_model_is_not_shown(base: Path, tmp_path: Path, missing: str) -> None:
    folders = finish_a_run(base, tmp_path / "runs")
    (folders.base / missing / "manifest.json").unlink()
    assert [reply["arm"] for reply in replies(ask(base, model, "--json", QUESTION))] == ["base", "teacher"]


def environment() -> dict[str, str]:
    """Of a process that finds the tests' own modules."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


async def wait(prompt: Prompt, generate: GenerateFunction) -> str:
    """A method that says when it runs, and takes longer than anybody waits."""
    Path("running").touch()
    await asyncio.sleep(600)
    return ""


@pytest.mark.slow
def test_ctrl_c_is_one_line(base: Path, tmp_path: Path) -> None:
    program = "from s2d_ray.cli import main; main()"
    command = [sys.executable, "-c", program, "ask", "s2a-geonames", QUESTION, *overrides(base)[:2]]
    process = subprocess.Popen(
        [*command, "method=tests.runs.test_ask:wait"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "running").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "s2d: stopped\n")


@pytest.mark.long
@pytest.mark.engine
def test_the_real_engine_answers_for_both_models(tiny_model: Path, tmp_path: Path) -> None:
    extra = [
        f"model={tiny_model}",
        "engine.kind=vllm",
        "engine.dtype=auto",
        "engine.max_model_len=2048",
        "engine.kv_cache_gib=0.1",
    ]
    folders = finish_a_run(tiny_model, tmp_path / "runs", *extra)
    shutil.copytree(tiny_model, folders.model, dirs_exist_ok=True)
    command = [sys.executable, "-c", "from s2d_ray.cli import main; main()", "ask", "s2a-geonames", "--json", QUESTION]
    ended = subprocess.run(
        [*command, *overrides(tiny_model), *extra], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    given = json.loads(ended.stdout)["replies"]
    assert [one["arm"] for one in given] == ["base", "teacher", "student"]
    assert all(one["tokens"] > 0 for one in given)
    assert given[2]["note"] == "trained on 166 pairs"


LONG = "word " * 60


def reply(arm: str, *texts: str, note: str = "") -> Reply:
    steps = [Step(f"step {n}", text, "stop", 10, 0, 5, 0.25) for n, text in enumerate(texts, start=1)]
    return Reply(arm, "a-model", "direct", note, steps, texts[-1], texts[-1], "", 5 * len(texts), 0.5)


def view(replies: Sequence[Reply], width: int, terminal: bool = True) -> list[str]:
    out = StringIO()
    shown_on = Console(
        file=out, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True
    )
    show_replies(Prompt("id", [user("Why? " + LONG)]), replies, shown_on)
    return [said.rstrip() for said in out.getvalue().splitlines()]


@pytest.mark.parametrize(("arms", "width"), [(2, 80), (2, 160), (3, 120), (3, 160)])
def test_replies_stand_beside_each_other_where_there_is_room(arms: int, width: int) -> None:
    given = [reply("base", "one"), reply("teacher", "two " + LONG, "three"), reply("student", "four")][:arms]
    lines = view(given, width)
    assert max(map(len, lines)) <= width
    titles = [said for said in lines if "System 1" in said]
    assert titles[0].split("  ")[0] == "System 1 (base)"
    assert "System 2" in titles[0]
    [answers] = [said for said in lines if "Answer: " in said]
    assert answers.count("Answer: ") == arms, "in one line, however many steps came before"


@pytest.mark.parametrize(("arms", "width"), [(2, 60), (3, 60), (3, 100)])
def test_replies_stand_under_each_other_where_there_is_not(arms: int, width: int) -> None:
    given = [reply("base", "one"), reply("teacher", "two " + LONG, "three"), reply("student", "four")][:arms]
    lines = view(given, width)
    assert max(map(len, lines)) <= width
    titles = ["System 1 (base)", "System 2", "Distilled System 1"]
    answers = ["Answer: one", "Answer: three", "Answer: four"]
    order = [said for pair in zip(titles, answers, strict=True) for said in pair][: 2 * arms]
    assert [said for said in lines if said in order] == order


def test_no_terminal_gets_whole_lines() -> None:
    lines = view([reply("base", "two " + LONG)], 40, terminal=False)
    assert ("Why? " + LONG).rstrip() in lines
    assert ("two " + LONG).rstrip() in lines


def test_a_text_cannot_play_with_the_terminal_or_with_markup() -> None:
    lines = view([reply("base", "\x1b[2Jgone [bold]bold[/bold]\r\nnext", note="[x]")], 60)
    assert "�[2Jgone [bold]bold[/bold]�" in lines
    assert "next" in lines
    assert "[x]" in lines
