"""Methods, tasks and rules given as Python objects: they are found again in other processes, and told apart."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import cloudpickle

from s2d_ray.curation.majority import Majority
from s2d_ray.curation.registry import load_rules
from s2d_ray.curation.rule import Kept, ParsedSamples, Rejected, Rule
from s2d_ray.data.records import LabelledPrompt, Prompt, Sample, content_id, user
from s2d_ray.errors import UserError
from s2d_ray.methods.direct import direct
from s2d_ray.methods.method import GenerateFunction, Method
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.load import load_recipe
from s2d_ray.recipes.recipe import Mixture, Recipe
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.registry import load_task
from s2d_ray.tasks.task import Split, Task

PROMPT = Prompt("p", [user("How many?")])
# As a person's own script: nothing in it can be imported elsewhere.
SCRIPT = """
import sys
from pathlib import Path

from ray import cloudpickle

from s2d_ray.curation.rule import Kept, Rejected, Rule
from s2d_ray.data.records import LabelledPrompt, Prompt, user
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.task import Task


class Letters(Task):
    count: int = 1

    def items(self, split, seed):
        for letter in "abc"[: self.count]:
            yield LabelledPrompt(Prompt(letter, [user(shouted(letter))]), [], "all")

    def parse(self, text, prompt):
        return text

    @property
    def source(self):
        return "made up"


class Longest(Rule):
    least: int = 2

    async def decide(self, parsed, kept, task, generate):
        answer = max(parsed.answers, key=len)
        return Kept(answer) if len(answer) >= self.least else Rejected("too short")


def shouted(text):
    return text.upper()


async def shout(prompt, generate, end="!"):
    return shouted(prompt.text) + end


given = [Named(name=shout, end="?"), Named.model_validate(Letters(count=3)), Named(name=Longest, least=3)]
Path(sys.argv[1]).write_bytes(cloudpickle.dumps(given))
"""


async def no_model(*_: Any, **__: Any) -> Any:
    raise AssertionError("asks no model")


def pickled_by_a_script(folder: Path) -> list[Named]:
    (folder / "mine.py").write_text(SCRIPT)
    subprocess.run([sys.executable, folder / "mine.py", folder / "given"], check=True)
    sections: list[Named] = pickle.loads((folder / "given").read_bytes())
    return sections


@pytest.mark.slow
async def test_what_a_script_defines_works_in_a_process_that_cannot_import_it(tmp_path: Path) -> None:
    method, task, rule = pickled_by_a_script(tmp_path)
    assert not hasattr(sys.modules["__main__"], "shout")
    assert await load_method(method)(PROMPT, no_model) == "HOW MANY?" + "?"
    assert [item.prompt.text for item in load_task(task).items("train", 0)] == ["A", "B", "C"]
    [longest] = load_rules([rule])
    samples = ParsedSamples(PROMPT, [Sample("a"), Sample("abc")], ["a", "abc"])
    assert await longest.decide(samples, None, load_task(task), None) == Kept("abc")
    [first, second] = (pickled_by_a_script(tmp_path)[0].name for _ in range(2))
    assert first == second == method.name, "the same script has the same fingerprint"


def method_that(end: str) -> Callable[..., Any]:
    async def ends(prompt: Prompt, generate: GenerateFunction) -> str:
        return prompt.text + end

    return ends


async def test_a_local_function_survives_pickling_with_its_closure() -> None:
    section = cloudpickle.loads(cloudpickle.dumps(Named(name=method_that("…"))))
    assert await load_method(section)(PROMPT, no_model) == "How many?…"


def defined(source: str, name: str) -> Any:
    """What a string of Python defines, as where there is no file to read it from."""
    namespace: dict[str, Any] = {"__name__": "__main__", "Rule": Rule, "Kept": Kept}
    exec(source, namespace)
    return namespace[name]


FUNCTION = "async def ask(prompt, generate):\n    return {}"
RULE = "class Mine(Rule):\n    least: int = {}\n    async def decide(self, *_):\n        return Kept({})"


def identity(given: Any) -> Any:
    return Named(name=given).model_dump(mode="json")


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (method_that("a"), method_that("a"), method_that("b")),
        (*(defined(FUNCTION.format(said), "ask") for said in ("'a'", "'a'", "'b'")),),
        (*(defined(FUNCTION.format(said), "ask") for said in ("prompt", "prompt", "generate")),),
        (*(defined(RULE.format(1, said), "Mine") for said in ("'a'", "'a'", "'b'")),),
        (*(defined(RULE.format(least, "'a'"), "Mine") for least in (1, 1, 2)),),
    ],
)
def test_two_bodies_have_two_fingerprints_and_one_has_one(one: Any, same: Any, other: Any) -> None:
    assert one is not same
    assert identity(one) == identity(same) != identity(other)
    for given in (one, other):
        assert identity(given)["name"].startswith(f"{given.__module__}:{given.__qualname__}@")


class Numbers(Task):
    """As many numbers as asked for."""

    count: int = 2
    start: int = 0

    def items(self, split: Split, seed: int) -> Iterator[LabelledPrompt]:
        for number in range(self.start, self.start + self.count):
            yield LabelledPrompt(Prompt(content_id(str(number)), [user(str(number))]), [], "all")

    def parse(self, text: str, prompt: Prompt) -> str | None:
        return text

    @property
    def source(self) -> str:
        return "made up"


class Reject(Rule):
    """Keeps nothing."""

    reason: str = "none is good"

    async def decide(
        self, parsed: ParsedSamples, kept: Kept | None, task: Task, generate: GenerateFunction | None
    ) -> Kept | Rejected:
        return Rejected(self.reason)


async def echo(prompt: Prompt, generate: GenerateFunction) -> str:
    """The prompt."""
    return prompt.text


OWN = {
    "name": "mine",
    "model": "a-model",
    "task": Numbers(count=5),
    "method": echo,
    "curate": {"rules": [Majority(threshold=0.6), Reject]},
    "evaluate": {"also": [direct]},
}


def test_objects_that_can_be_imported_are_named_as_in_a_file(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(OWN)
    assert recipe.task == Named(name=f"{__name__}:Numbers", count=5)
    assert recipe.method == Named(name=f"{__name__}:echo")
    assert recipe.evaluate.also == (Named(name="s2d_ray.methods.direct:direct"),)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    again = load_recipe(str(tmp_path / "mine.yaml"))
    assert again == recipe
    assert isinstance(again, Recipe)
    assert load_task(again.task) == Numbers(count=5)
    assert load_rules(again.curate.rules) == [Majority(threshold=0.6), Reject()]
    assert load_method(again.method) is echo


def test_an_instance_may_stand_for_the_name_and_has_its_options_changed() -> None:
    section = {"name": Numbers(count=5, start=1), "start": 7}
    assert load_task(Named.model_validate(section)) == Numbers(count=5, start=7)
    assert load_task(Named(name=Gsm8k(valid_share=0.2))) == Gsm8k(valid_share=0.2)


def test_a_part_of_a_mixture_keeps_its_objects() -> None:
    class Local(Numbers):
        """Known only here."""

    part = {"task": Local(count=3), "method": method_that("!")}
    mixture = Mixture.model_validate({"name": "mine", "model": "a-model", "parts": {"one": part}})
    recipe = mixture.recipes()["one"]
    assert load_task(recipe.task) == Local(count=3)
    found: Method = load_method(recipe.method)
    assert found.__qualname__ == "method_that.<locals>.ends"


@pytest.mark.parametrize(
    ("load", "given", "problem"),
    [
        (load_method, Named(name="__main__:shout@0123"), "was made in another Python session"),
        (load_method, Named(name=Numbers), "is no function"),
        (load_task, Named(name=Majority()), "Majority is no Task"),
        (load_task, Named(name=echo), "echo is no Task"),
        (load_task, Named(name=Numbers, size=3), "unknown key size"),
        (lambda rule: load_rules([rule]), Named(name=Numbers), "Numbers is no Rule"),
    ],
)
def test_what_cannot_be_used_is_one_line(load: Callable[[Named], object], given: Named, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        load(given)
    assert "\n" not in str(caught.value)
