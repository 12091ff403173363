"""Curation cannot see a reference: with every reference poisoned the distilled set is the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import curate_prompt
from s2d_ray.data.records import Candidates, Message, Row
from s2d_ray.inference.method_runs import Recorder, run_method
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import training_prompts


def sums(messages: Sequence[Message], random: Random) -> str:
    """Adds up right two times in three; as a judge of responses names the first."""
    asked = messages[-1]["content"]
    if "most consistent response" in asked:
        return "Response 1"
    left, _, right = asked.removeprefix("What is ").partition("?")[0].partition(" + ")
    return f"Final answer: {int(left) + int(right) + random.choice([0, 0, 1])}"


def write(path: Path, poisoned: bool) -> Path:
    rows = [{"question": f"What is {n} + {n}?", "answer": f"#### {-1 if poisoned else 2 * n}"} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def distilled(path: Path, rules: Sequence[Named]) -> list[Row]:
    engine = ScriptedEngine(Engine(kind="scripted", script=f"{__name__}:sums"))
    task, method = load_task(Named(name="gsm8k", path=str(path))), load_method(Named(name="cot"))
    decisions = []
    for prompt in training_prompts(task, seed=0):
        samples = await run_method(method, prompt, engine, Sampling(), samples=3, seed=0)
        generate = Recorder(engine, Sampling(), (prompt.prompt_id, "curation"))
        decisions.append(await curate_prompt(Candidates(prompt, samples), load_rules(rules), task, generate))
    return decisions


async def test_poisoned_references_change_nothing(tmp_path: Path) -> None:
    for rules in ([Named(name="majority")], [Named(name="universal")], [Named(name="unfiltered")]):
        clean = await distilled(write(tmp_path / "clean.jsonl", poisoned=False), rules)
        poisoned = await distilled(write(tmp_path / "poisoned.jsonl", poisoned=True), rules)
        assert clean == poisoned
        assert sum(row["status"] == "kept" for row in clean) > 30
        assert not any(row["target"] == "-1" for row in poisoned)
