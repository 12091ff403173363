"""A gateway over the scripted engine behind a real HTTP server, without Ray."""

import socket
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import openai
import psutil
import uvicorn

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Completion, Message
from s2d_ray.experiment.controller import Controller, events_folder
from s2d_ray.experiment.events import Lost, RequestEvent
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.inference.engine import EngineError, PromptTooLong, RefusedRequest
from s2d_ray.inference.pairwise import PairwiseJudge
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.sections import Sampling
from s2d_ray.recipes.strict import Named, parse
from s2d_ray.serving.auth import load_access
from s2d_ray.serving.experiment_sync import ControllerClient
from s2d_ray.serving.gateway import Gateway
from s2d_ray.serving.http import build_app
from s2d_ray.serving.responders import Confidence, Responder, Responders
from s2d_ray.tasks.registry import load_task
from tests.scripts import oracle

QUESTION = "I think the answer is 7. What is the number of case 12?"


def slow(messages: Sequence[Message], random: object) -> str:
    """A text of 40 words."""
    return "word " * 40


def fails(messages: Sequence[Message], random: object) -> str:
    """No text at all."""
    raise RuntimeError("the script is broken")


def quotes(messages: Sequence[Message], random: object) -> str:
    """An error with the prompt in it."""
    raise RuntimeError(messages[-1]["content"])


def fails_but_for_the_teacher(messages: Sequence[Message], random: object) -> str:
    """A text only where the opinion was taken out, or is to be."""
    text = messages[-1]["content"]
    if text.startswith("I think"):
        raise RuntimeError("the script is broken")
    return text


def steady(messages: Sequence[Message], random: object) -> str:
    """Rewrites as told, and always gives the same answer."""
    return QUESTION.partition(". ")[2] if messages[-1]["content"].startswith("Rewrite") else "answer 4"


def longer_and_likes_it(messages: Sequence[Message], random: object) -> str:
    """The student gives a short answer and the teacher a long one; the judge wants the long one."""
    text = messages[-1]["content"]
    if text.startswith("Rewrite"):
        return QUESTION.partition(". ")[2]
    if not text.startswith("Which of two responses"):
        return "seven" if "I think" in text else "7 it is"
    return "A" if "Response A:\n7 it is" in text else "B"


def likes_the_first(messages: Sequence[Message], random: object) -> str:
    """The same answers; the judge always names the first."""
    said = longer_and_likes_it(messages, random)
    return "A" if said == "B" else said


def gives_no_verdict(messages: Sequence[Message], random: object) -> str:
    """The same answers; the judge says nothing of use."""
    said = longer_and_likes_it(messages, random)
    return "hm" if said in ("A", "B") else said


def choosy(messages: Sequence[Message], random: Random) -> str:
    """Answers, and as a real engine does takes no conversation that its template refuses or that is too long for it."""
    text = messages[-1]["content"]
    if "[refused]" in text:
        raise RefusedRequest("the chat template refuses this conversation: roles must alternate")
    if "[long]" in text:
        raise PromptTooLong("the prompt is too long: it has 900 tokens; max_model_len is 768")
    if "[slow]" in text:
        raise EngineError("no answer within 1 s (engine.call_timeout)")
    return oracle(messages, random)


def person(messages: Sequence[Message], random: Random) -> str:
    """Someone, as JSON."""
    return '{"name": "Ada", "age": 36}'


def writes(messages: Sequence[Message], random: Random) -> str:
    """What every method needs, in several lines, and the answer in the last one."""
    text = messages[-1]["content"]
    if "Put it under two labels" in text:
        return "Unbiased text context: none!\nQuestion: What is the number of case 12?"
    return "Let us see!\nFinal answer: It is 7! So it is." if "step by step" in text else "It is 7!\nSo it is."


def endless(messages: Sequence[Message], random: Random) -> str:
    """It never comes to an end."""
    return "and on " * 1000


class ThinkingEngine(ScriptedEngine):
    """Thinks of the question before every text."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        said = await super().complete(messages, sampling, n, seed)
        return [replace(completion, thought=THOUGHT) for completion in said]

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        async for piece in super().stream(messages, sampling, seed):
            yield replace(piece, thought=THOUGHT) if isinstance(piece, Completion) else piece


THOUGHT = "They want a number."


class LocalController:
    """A controller in the same process."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def observe(self, events: Sequence[RequestEvent], lost: Lost) -> ExperimentState:
        return self._controller.observe(events, lost)

    async def change(self, body: Mapping[str, Any]) -> ExperimentState:
        return self._controller.change(body)

    async def page(self, nonce: str) -> str:
        return self._controller.page(nonce)


def served_recipe(**sections: object) -> Recipe:
    """A recipe whose teacher rewrites first, over scripts of the tests."""
    raw: dict[str, Any] = {
        "name": "trial",
        "model": "none",
        "task": {"name": "prompts", "path": "none.jsonl"},
        "method": {"name": "s2a", "prompts": "few_shot"},
        "engine": {"kind": "scripted", "script": "tests.scripts:oracle"},
        "serve": {"weights": {"student": 1}},
    }
    return parse(Recipe, raw | sections, where="recipe")


def make_gateway(
    recipe: Recipe,
    base: Path,
    confidence: Confidence | None = None,
    controller: ControllerClient | None = None,
    engine: ScriptedEngine | None = None,
) -> Gateway:
    """A gateway with one engine for all arms."""
    engine, task = engine or ScriptedEngine(recipe.engine), load_task(recipe.task)
    direct = Responder(load_method(Named(name="direct")), engine, streams=True)
    teacher = Responder(load_method(recipe.method), engine, streams=False)
    judging = recipe.serve.shadow_judge
    judge = PairwiseJudge(load_method(judging), engine, recipe.evaluate.sampling) if judging else None
    responders = Responders(task, {"base": direct, "teacher": teacher, "student": direct}, confidence, judge)
    folders = RunFolders(base)
    controller = controller or LocalController(Controller(recipe, folders))
    return Gateway(recipe, task, responders, controller, events_folder(folders))


@contextmanager
def serving(gateway: Gateway, recipe: Recipe, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The gateway's address while the block runs."""
    app = build_app(gateway, load_access(recipe.serve, environment or {}), recipe.serve.max_body_kib * 1024)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def client(address: str, key: str = "none") -> openai.OpenAI:
    """A client that gives up at once."""
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


def ask(address: str, model: str = "s2d", text: str = QUESTION, **options: Any) -> Any:
    """One question, answered in one piece."""
    messages: Any = [{"role": "user", "content": text}]
    with client(address) as asking:
        return asking.chat.completions.create(model=model, messages=messages, **options)


def replicas(name: str, deployment: str) -> list[psutil.Process]:
    """The processes of a deployment's replicas."""
    title = f"ray::ServeReplica:{name}:{deployment}"
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith(title)]
