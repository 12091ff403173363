"""The deployments on a real local Ray Serve with the scripted engine, asked by the `openai` client."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import openai
import pytest
import yaml

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Row
from s2d_ray.errors import UserError
from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.experiment.store import Snapshot
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import Cascade
from s2d_ray.serving.auth import load_access
from s2d_ray.serving.ray_settings import SERVING_SETTINGS
from s2d_ray.serving.responders import Confidence
from tests.serving.gateways import QUESTION, ask, client, replicas, served_recipe
from tests.serving.test_dashboard import drawn
from tests.serving.test_web import GREEDY, get, post
from tests.stages.runs import REPOSITORY

pytestmark = pytest.mark.ray
PORT = 8123
ADDRESS = f"http://127.0.0.1:{PORT}"
TRACE: dict[str, Any] = {"s2d": {"trace": True}}


@contextmanager
def deployed(
    recipe: Recipe,
    base: Path,
    confidence: Confidence | None = None,
    student: Path | None = None,
    adapter: Path | None = None,
    root: Path | None = None,
) -> Iterator[None]:
    """Served while the block runs; the results' folder and the student are the base's, unless given."""
    from ray import serve

    from s2d_ray.serving.deployments import Served, application

    folders, access = RunFolders(root or base), load_access(recipe.serve, {})
    served = Served(recipe, folders, base, student or base, access, confidence, adapter)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    try:
        serve.run(application(served), name=recipe.name, route_prefix="/")
        yield
    finally:
        serve.shutdown()


def events(base: Path, kind: str = "requests") -> list[Row]:
    """What the store has."""
    rows: list[Row] = getattr(Snapshot(base / "serving" / "events"), kind).to_table().to_pylist()
    return rows


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_both_arms_answer_through_serve_and_weights_change_live(local_ray: None, tmp_path: Path) -> None:
    recipe = served_recipe(engine={"kind": "scripted", "script": "tests.serving.gateways:choosy"})
    change = {"action": "weights", "weights": {"student": 0}, "who": "ada", "why": "a try", "version": 1}
    from s2d_ray.serving.service import refuse_second

    refuse_second()
    with deployed(recipe, tmp_path):
        answers = {name: ask(ADDRESS, name, seed=1) for name in ("s2d", "s2d:student", "s2d:teacher", "s2d:base")}
        assert answers["s2d"].choices[0].message.content.startswith("answer")
        steps = ask(ADDRESS, "s2d:teacher", extra_body=TRACE).s2d["steps"]
        assert [step["name"] for step in steps] == ["rewrite", "respond"]
        for name, stream in (("s2d:student", True), ("s2d:teacher", False)):
            # What an engine says of a request is known for that on the other side of Ray, too.
            with pytest.raises(openai.BadRequestError) as refused:
                ask(ADDRESS, name, text="[long]", stream=stream)
            assert refused.value.code == "context_length_exceeded"

        assert post(ADDRESS, "/ab/feedback", {"request_id": answers["s2d"].id, "score": 1})[0] == 200
        assert post(ADDRESS, "/ab/change", change, {ADMIN_HEADER: ""}) == (200, {"version": 2, "status": "running"})
        assert ask(ADDRESS, extra_body=TRACE).s2d["arm"] == "teacher"
        status, page = get(ADDRESS, "/ab")
        assert (status, "a try" in page) == (200, True)
        with pytest.raises(UserError, match=r"serves trial already: end that with `serve shutdown`, or put"):
            refuse_second()
    stored = events(tmp_path)
    assert Counter(row["outcome"] for row in stored) == {"answered": 6, "refused": 2}
    assert {row["request_id"] for row in stored} >= {answer.id for answer in answers.values()}
    # Flushed when it shut down: nothing is left in a journal.
    assert list((tmp_path / "serving" / "events" / "journal").iterdir()) == []


def test_prometheus_finds_what_the_dashboard_draws(local_ray: None, tmp_path: Path) -> None:
    import ray

    # A script knows no log-probabilities: the teacher has to answer in the student's place.
    never_sure = Confidence(Cascade(), threshold=-0.5)
    messages: Any = [{"role": "user", "content": QUESTION}]

    def scraped() -> set[str]:
        _, text = get(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}", "/metrics")
        return set(re.findall(r"^(ray_s2d_\w+)\{", text, re.MULTILINE))

    with deployed(served_recipe(), tmp_path, never_sure):
        assert ask(ADDRESS, extra_body=TRACE).s2d["escalated"]
        with client(ADDRESS) as asking:
            list(asking.chat.completions.create(model="s2d:base", messages=messages, stream=True))
        until(lambda: scraped() >= drawn(), seconds=180)


def test_streams_and_clients_that_go_away(local_ray: None, tmp_path: Path) -> None:
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:slow", "token_seconds": 2, "max_sequences": 1},
        evaluate={"sampling": GREEDY},
        serve={"weights": {"student": 1}},
    )
    messages: Any = [{"role": "user", "content": QUESTION}]
    with deployed(recipe, tmp_path):
        with client(ADDRESS) as asking:
            stream = asking.chat.completions.create(model="s2d", messages=messages, stream=True)
            assert next(iter(stream)).choices[0].delta.role == "assistant"
            stream.close()
        # The text would take 80 s, and the engine answers one at a time.
        assert ask(ADDRESS, max_tokens=1).usage.completion_tokens == 1
        with client(ADDRESS) as asking, pytest.raises(openai.APITimeoutError):
            asking.with_options(timeout=3).chat.completions.create(model="s2d", messages=messages)
        assert ask(ADDRESS, max_tokens=1).usage.completion_tokens == 1
        until(lambda: len(events(tmp_path)) == 4)
    assert [row["outcome"] for row in events(tmp_path)] == ["cancelled", "answered", "cancelled", "answered"]


def test_a_redeploy_fails_no_request(local_ray: None, tmp_path: Path) -> None:
    from ray import serve

    from s2d_ray.serving.deployments import Served, application

    engine = {"kind": "scripted", "script": "tests.serving.gateways:slow", "token_seconds": 0.02}
    recipe = served_recipe(engine=engine, evaluate={"sampling": GREEDY})
    served = Served(recipe, RunFolders(tmp_path), tmp_path, tmp_path, load_access(recipe.serve, {}))
    replaced = Event()
    with deployed(recipe, tmp_path), ThreadPoolExecutor(4) as pool:

        def keep_asking(_: int) -> list[str]:
            ids = []
            while not replaced.is_set():
                ids.append(ask(ADDRESS).id)
            return ids

        asked = [pool.submit(keep_asking, number) for number in range(4)]
        try:
            until(lambda: len(events(tmp_path)) >= 4)
            again = served_recipe(engine=engine, evaluate={"sampling": GREEDY}, description="another")
            successor = Served(again, served.folders, tmp_path, tmp_path, served.access)
            serve.run(application(successor), name=recipe.name, route_prefix="/")
            until(lambda: "another" in get(ADDRESS, "/ab")[1])
        finally:
            replaced.set()
        ids = [request_id for future in asked for request_id in future.result()]
    assert len(ids) > 8
    assert sorted(row["request_id"] for row in events(tmp_path)) == sorted(ids)


@pytest.mark.long
def test_an_arm_grows_with_what_is_asked_and_shrinks_to_nothing(local_ray: None, tmp_path: Path) -> None:
    scaled = {"concurrent_requests": 2, "queued_requests": 99, "max_replicas": 2, "scale_down_seconds": 5}
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:slow", "token_seconds": 0.05},
        evaluate={"sampling": GREEDY},
        serve={"weights": {"student": 1}, "student": {**scaled, "min_replicas": 0}},
    )
    grown = Event()

    def keep_asking() -> None:
        while not grown.is_set():
            ask(ADDRESS)

    def copies() -> int:
        return len(replicas(recipe.name, "student"))

    with deployed(recipe, tmp_path):
        assert copies() == 0
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(keep_asking) for _ in range(8)]
            try:
                until(lambda: copies() == 2, seconds=120)
            finally:
                grown.set()
            assert [future.result() for future in asking] == [None] * 8
        until(lambda: copies() == 0, seconds=120)
        assert ask(ADDRESS).choices[0].message.content
    assert {row["outcome"] for row in events(tmp_path)} == {"answered"}


def test_the_ray_service_is_what_serve_deploy_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    from s2d_ray.serving.service import AppArgs, app, serve_config

    manifest = yaml.safe_load((REPOSITORY / "cluster/kuberay/rayservice.yaml").read_text())
    described = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(described)
    [application] = described["applications"]
    assert application["import_path"] == f"{app.__module__}:{app.__name__}"
    arguments = AppArgs.model_validate(application["args"])
    recipe = load_single_recipe(arguments.recipe, arguments.overrides)
    printed = serve_config(recipe, arguments.recipe, arguments.root, arguments.overrides)
    assert printed == described
    environment = {entry["name"]: entry.get("value") for entry in _containers(manifest)[0]["env"]}
    secrets = {recipe.serve.admin_token_env, recipe.serve.api_keys_env, "HF_TOKEN"}
    haproxy = {"RAY_SERVE_HAPROXY_BINARY_PATH": "/opt/venv/bin/s2d-haproxy"}
    settings = {name: value for name, value in environment.items() if name not in secrets}
    assert settings == {**SERVING_SETTINGS, **haproxy}
    assert {name: environment[name] for name in secrets} == dict.fromkeys(secrets)
    assert all(container["env"] == _containers(manifest)[0]["env"] for container in _containers(manifest))


def _containers(manifest: Any) -> list[Any]:
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]
