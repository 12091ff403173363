"""The server without Ray, asked by the `openai` client: answers, streams, limits, who may do what, what is stored."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.data.records import Row
from s2d_ray.experiment.controller import Controller
from s2d_ray.experiment.events import Lost, RequestEvent
from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.experiment.request_ids import Asker
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.experiment.store import Snapshot
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.strict import parse
from s2d_ray.serving.admission import Refused
from s2d_ray.serving.protocol import ChatRequest
from s2d_ray.serving.responders import Confidence
from tests.serving.gateways import QUESTION, LocalController, ask, client, make_gateway, served_recipe, serving

ANSWER = "answer"
HOSTILE = "<script>alert(1)</script>"


def stored(folder: Path, kind: str = "requests") -> list[Row]:
    """What the store has."""
    rows: list[Row] = getattr(Snapshot(folder / "serving" / "events"), kind).to_table().to_pylist()
    return rows


def post(address: str, path: str, body: object, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of a plain request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        address + path, content, {"content-type": "application/json", **(headers or {})}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def get(address: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and text of a plain request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, headers=dict(headers or {}))) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def question(model: str) -> ChatRequest:
    """As a client asks it."""
    return parse(ChatRequest, {"model": model, "messages": [{"role": "user", "content": QUESTION}]}, where="request")


def slow_recipe(token_seconds: float = 0.005, **serve: object) -> Recipe:
    """One sequence at once, of 40 words."""
    engine = {
        "kind": "scripted",
        "script": "tests.serving.gateways:slow",
        "max_sequences": 1,
        "token_seconds": token_seconds,
    }
    return served_recipe(
        engine=engine,
        serve={"weights": {"student": 1}, **serve},
        evaluate={"sampling": GREEDY},
    )


GREEDY = {"temperature": 0, "top_p": 1, "max_tokens": 64}


def test_every_model_answers_and_each_answer_is_stored_once(tmp_path: Path) -> None:
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        with client(address) as asking:
            names = [model.id for model in asking.models.list()]
        assert names == ["s2d", "s2d:student", "s2d:teacher", "s2d:base"]
        answers = {name: ask(address, name, seed=1, temperature=0.5) for name in names}
        assert get(address, "/healthz")[0] == 200
    assert answers["s2d"].choices[0].message.content == answers["s2d:student"].choices[0].message.content
    assert all(answer.model == name for name, answer in answers.items())
    assert answers["s2d:teacher"].usage.completion_tokens > answers["s2d:student"].usage.completion_tokens
    rows = {row["request_id"]: row for row in stored(tmp_path)}
    assert {answer.id for answer in answers.values()} == rows.keys()
    assert len(stored(tmp_path)) == 4
    assert {row[column] for row in rows.values() for column in ("prompt", "answer")} == {None}
    arms = {name: rows[answer.id]["arm"] for name, answer in answers.items()}
    assert arms == {"s2d": "student", "s2d:student": "student", "s2d:teacher": "teacher", "s2d:base": "base"}
    versions = {name: rows[answer.id]["version"] for name, answer in answers.items()}
    assert versions == {"s2d": 1, "s2d:student": None, "s2d:teacher": None, "s2d:base": None}
    teacher = rows[answers["s2d:teacher"].id]
    assert (teacher["outcome"], teacher["prompt"], teacher["first_token_seconds"]) == ("answered", None, None)
    assert teacher["completion_tokens"] == answers["s2d:teacher"].usage.completion_tokens


def test_steps_of_the_teacher_are_told_where_asked_for(tmp_path: Path) -> None:
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        traced = ask(address, "s2d:teacher", extra_body={"s2d": {"trace": True}})
        assert "s2d" not in ask(address, "s2d:teacher").model_dump()
    trace = traced.model_dump()["s2d"]
    assert [step["name"] for step in trace["steps"]] == ["rewrite", "respond"]
    assert trace["steps"][0]["text"] == "What is the number of case 12?"
    assert (trace["arm"], trace["escalated"]) == ("teacher", False)


def test_a_stream_comes_piece_by_piece_and_says_the_same(tmp_path: Path) -> None:
    recipe = slow_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address, client(address) as asking:
        times, pieces, usage = [], [], None
        messages: Any = [{"role": "user", "content": QUESTION}]
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        for part in asking.chat.completions.create(model="s2d", messages=messages, **options):
            times.append(time.monotonic())
            pieces += [choice.delta.content for choice in part.choices if choice.delta.content]
            usage = part.usage or usage
        whole = ask(address).choices[0].message.content
    assert "".join(pieces) == whole
    assert len(pieces) == 40
    assert times[-1] - times[0] > 0.1
    assert usage is not None
    assert usage.completion_tokens == 40
    streamed, plain = stored(tmp_path)
    assert 0 < streamed["first_token_seconds"] < streamed["seconds"] - 0.1
    assert plain["first_token_seconds"] is None


def test_completions_ask_what_a_chat_of_one_message_does(tmp_path: Path) -> None:
    recipe = slow_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address, client(address) as asking:
        asked: dict[str, Any] = {"model": "s2d", "prompt": QUESTION, "seed": 1, "max_tokens": 3}
        whole = asking.completions.create(**asked)
        assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "length")
        assert whole.choices[0].text == ask(address, seed=1, max_tokens=3).choices[0].message.content
        assert whole.usage is not None and whole.usage.completion_tokens == 3
        chunks = list(asking.completions.create(**asked, stream=True))
        assert "".join(piece.choices[0].text for piece in chunks) == whole.choices[0].text
        assert len(chunks) > 3
        with pytest.raises(openai.BadRequestError, match="suffix: not supported"):
            asking.completions.create(**asked, suffix="?")
    assert [row["outcome"] for row in stored(tmp_path)] == ["answered"] * 3


def test_tokens_are_limited_by_either_name(tmp_path: Path) -> None:
    recipe = slow_recipe()
    one, other = {"max_tokens": 2}, {"max_completion_tokens": 2}
    limits: list[dict[str, Any]] = [one, other, {"max_tokens": 9} | other]
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        for limit in limits:
            assert ask(address, **limit).usage.completion_tokens == 2


def test_the_teacher_can_be_streamed_too(tmp_path: Path) -> None:
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address, client(address) as asking:
        messages: Any = [{"role": "user", "content": QUESTION}]
        parts = list(asking.chat.completions.create(model="s2d:teacher", messages=messages, stream=True, seed=3))
        whole = ask(address, "s2d:teacher", seed=3)
    texts = [choice.delta.content or "" for part in parts for choice in part.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == "stop"
    streamed, plain = stored(tmp_path)
    assert streamed["first_token_seconds"] <= streamed["seconds"]
    assert plain["first_token_seconds"] is None


def test_a_user_keeps_the_arm_by_field_header_or_cookie(tmp_path: Path) -> None:
    recipe = served_recipe(serve={"weights": {"student": 0.5}})
    trace = {"s2d": {"trace": True}}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        users = [str(number) for number in range(8)]
        by_field = {u: {ask(address, user=u, extra_body=trace).s2d["arm"] for _ in range(3)} for u in users}
        by_header = {u: ask(address, extra_headers={"x-s2d-user": u}, extra_body=trace).s2d["arm"] for u in users}
        with client(address) as asking:
            asked: Any = {"model": "s2d", "messages": [{"role": "user", "content": QUESTION}], "extra_body": trace}
            first = asking.chat.completions.with_raw_response.create(**asked)
            cookie = first.headers["set-cookie"].partition(";")[0]
            arms = {
                asking.chat.completions.create(**asked, extra_headers={"cookie": cookie}).model_dump()["s2d"]["arm"]
                for _ in range(3)
            }
    assert {len(arms) for arms in by_field.values()} == {1}
    assert {arm for arms in by_field.values() for arm in arms} == {"student", "teacher"}
    assert {u: {arm} for u, arm in by_header.items()} == by_field
    assert arms == {first.parse().model_dump()["s2d"]["arm"]}


@pytest.mark.slow
def test_past_the_queue_a_request_is_refused_with_a_time_to_come_again(tmp_path: Path) -> None:
    recipe = slow_recipe(0.05, student={"concurrent_requests": 1, "queued_requests": 1})
    with serving(make_gateway(recipe, tmp_path), recipe) as address, ThreadPoolExecutor(6) as pool:

        def one(_: int) -> object:
            try:
                return ask(address).id
            except openai.RateLimitError as error:
                return int(error.response.headers["retry-after"])

        results = list(pool.map(one, range(6)))
    answered, refused = [r for r in results if isinstance(r, str)], [r for r in results if isinstance(r, int)]
    assert len(answered) == 2
    assert len(refused) == 4
    assert min(refused) >= 1
    outcomes = sorted(row["outcome"] for row in stored(tmp_path))
    assert outcomes == ["answered"] * 2 + ["refused"] * 4


def test_a_deadline_ends_an_answer_that_takes_too_long(tmp_path: Path) -> None:
    recipe = slow_recipe(0.5, student={"deadline_seconds": 0.2})
    late = pytest.raises(openai.InternalServerError, match=r"no answer within 0\.2 s")
    with serving(make_gateway(recipe, tmp_path), recipe) as address, late as error:
        ask(address)
    assert error.value.status_code == 504
    assert [row["outcome"] for row in stored(tmp_path)] == ["failed"]


async def test_a_deadline_ends_the_wait_for_a_slot(tmp_path: Path) -> None:
    gateway = make_gateway(slow_recipe(student={"concurrent_requests": 1, "deadline_seconds": 0.2}), tmp_path)
    await gateway.open()
    async with gateway.admission["student"].slot():
        with pytest.raises(Refused, match="too many requests wait") as refused:
            await gateway.router.answer(gateway.router.assign(question("s2d"), Asker("ada")))
    await gateway.close()
    assert refused.value.status == 503
    assert [row["outcome"] for row in stored(tmp_path)] == ["refused"]


@pytest.mark.slow
def test_a_client_that_goes_away_frees_its_slot(tmp_path: Path) -> None:
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:slow", "token_seconds": 1, "max_sequences": 1},
        evaluate={"sampling": GREEDY},
        serve={"weights": {"student": 1}, "student": {"concurrent_requests": 1, "queued_requests": 0}},
    )
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        with client(address) as asking:
            messages: Any = [{"role": "user", "content": QUESTION}]
            stream = asking.chat.completions.create(model="s2d", messages=messages, stream=True)
            next(iter(stream))
            with pytest.raises(openai.RateLimitError):
                ask(address)
            stream.close()
        start = time.monotonic()
        # The whole text would take 40 seconds.
        assert ask(address, max_tokens=1).usage.completion_tokens == 1
        assert time.monotonic() - start < 20
    assert [row["outcome"] for row in stored(tmp_path)] == ["refused", "cancelled", "answered"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        ({"model": "gpt", "messages": [{"role": "user", "content": "?"}]}, 404, "no model gpt"),
        *(
            (
                {"model": name, "messages": [{"role": "user", "content": "?"}]},
                404,
                f"no model {name}: there are s2d, s2d:student, s2d:teacher, s2d:base",
            )
            for name in ("s2d:system1", "s2d:system2", "base")
        ),
        ({"model": "s2d", "messages": []}, 400, "messages"),
        ({"model": "s2d", "messages": [{"role": "user", "content": "?"}], "top_k": 5}, 400, "unknown key top_k"),
        ({"model": "s2d", "messages": [{"role": "user", "content": "?"}], "n": 2}, 400, "n:"),
        ({"model": "s2d", "messages": [{"role": "user", "content": "?"}], "max_tokens": 513}, 400, "more than the 512"),
        ({"model": "s2d", "messages": [{"role": "user", "content": "?" * 2048}]}, 413, "larger than 1024 bytes"),
    ],
)
def test_what_cannot_be_answered_is_said_as_openai_does(
    tmp_path: Path, body: object, status: int, message: str
) -> None:
    recipe = served_recipe(serve={"max_body_kib": 1})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        given, content = post(address, "/v1/chat/completions", body)
    assert given == status
    assert message in content["error"]["message"]
    assert stored(tmp_path) == []


def test_a_failing_engine_is_an_answer_with_a_status(tmp_path: Path) -> None:
    recipe = served_recipe(engine={"kind": "scripted", "script": "tests.serving.gateways:fails"})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        with pytest.raises(openai.InternalServerError, match="the script is broken"):
            ask(address)
        with pytest.raises(openai.InternalServerError, match="the script is broken"), client(address) as asking:
            messages: Any = [{"role": "user", "content": QUESTION}]
            asking.chat.completions.create(model="s2d", messages=messages, stream=True)
    assert [row["outcome"] for row in stored(tmp_path)] == ["failed", "failed"]


def test_no_prompt_is_kept_by_way_of_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:quotes"},
        serve={"weights": {"student": 1}},
    )
    with serving(make_gateway(recipe, tmp_path), recipe) as address, pytest.raises(openai.InternalServerError):
        ask(address)
    assert [row["error"] for row in stored(tmp_path)] == ["RuntimeError"]
    assert "failed: RuntimeError" in caplog.text
    assert QUESTION not in caplog.text


def test_weights_change_at_once_and_outlast_the_server(tmp_path: Path) -> None:
    recipe = served_recipe()
    change = {"action": "weights", "weights": {"student": 0}, "who": "ada", "why": "a try", "version": 1}
    trace = {"s2d": {"trace": True}}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        assert ask(address, user="u", extra_body=trace).s2d["arm"] == "student"
        assert post(address, "/ab/change", change)[0] == 403
        assert post(address, "/ab/change", change, {ADMIN_HEADER: ""}) == (200, {"version": 2, "status": "running"})
        assert ask(address, user="u", extra_body=trace).s2d["arm"] == "teacher"
        status, body = post(address, "/ab/change", change, {ADMIN_HEADER: ""})
        assert (status, "reload" in body["error"]["message"]) == (409, True)
        assert post(address, "/ab/change", {**change, "version": 2, "why": ""}, {ADMIN_HEADER: ""})[0] == 400
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        assert ask(address, user="u", extra_body=trace).s2d["arm"] == "teacher"


def test_keys_and_the_admin_token_are_asked_for(tmp_path: Path) -> None:
    recipe = served_recipe(serve={"api_keys_env": "KEYS", "admin_token_env": "TOKEN"})
    secrets = {"KEYS": "k" * 16, "TOKEN": "t" * 16}
    stop = {"action": "stop", "who": "ada", "why": "enough", "version": 1}
    with serving(make_gateway(recipe, tmp_path), recipe, secrets) as address:
        with pytest.raises(openai.AuthenticationError), client(address, "wrong key of 16") as asking:
            asking.models.list()
        assert post(address, "/v1/chat/completions", {})[0] == 401
        assert post(address, "/ab/feedback", {"request_id": "x", "score": 1})[0] == 401
        with client(address, secrets["KEYS"]) as asking:
            assert len(list(asking.models.list())) == 4
        assert post(address, "/ab/change", stop, {ADMIN_HEADER: secrets["KEYS"]})[0] == 403
        assert post(address, "/ab/change", stop, {ADMIN_HEADER: secrets["TOKEN"]})[0] == 200
        assert get(address, "/ab")[0] == 200
        assert not any(secret in get(address, "/ab")[1] for secret in secrets.values())


def test_other_sites_get_nothing(tmp_path: Path) -> None:
    recipe = served_recipe()
    form = {"content-type": "text/plain"}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        assert post(address, "/ab/feedback", {"request_id": "x", "score": 1}, form)[0] == 415
        for path in ("/ab", "/v1/models"):
            assert get(address, path, {"host": "evil.example"})[0] == 401
            assert get(address, path)[0] == 200
    assert stored(tmp_path, "feedback") == []


def test_feedback_reaches_the_page_and_hostile_text_does_not_run(tmp_path: Path) -> None:
    recipe = served_recipe(description=HOSTILE, serve={"weights": {"student": 1}, "store_text": True})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        answered = ask(address, text=HOSTILE + "?")
        assert post(address, "/ab/feedback", {"request_id": answered.id, "score": 0.5})[0] == 200
        assert post(address, "/ab/feedback", {"request_id": answered.id})[0] == 400
        why = {"action": "roll back", "who": HOSTILE, "why": HOSTILE, "version": 1}
        assert post(address, "/ab/change", why, {ADMIN_HEADER: ""})[0] == 200
        page = get(address, "/ab")[1]
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    [rating], [row] = stored(tmp_path, "feedback"), stored(tmp_path)
    assert (rating["request_id"], rating["score"]) == (answered.id, 0.5)
    assert json.loads(row["prompt"]) == [{"role": "user", "content": HOSTILE + "?"}]
    assert row["answer"] == answered.choices[0].message.content


@pytest.mark.slow
def test_a_guardrail_rolls_back_by_itself_and_says_why(tmp_path: Path) -> None:
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:fails_but_for_the_teacher"},
        serve={"weights": {"student": 1}, "guardrails": {"error_rate": 0.05}},
    )
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        for number in range(40):
            try:
                ask(address, user=str(number))
            except openai.InternalServerError:
                continue
        deadline = time.monotonic() + 20
        while "Rolled back" not in get(address, "/ab")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(1.5)
        assert ask(address, user="1", extra_body={"s2d": {"trace": True}}).s2d["arm"] == "teacher"
        assert "requests failed, above 5%" in get(address, "/ab")[1]


def test_the_shadow_is_asked_and_compared_without_delaying_anyone(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "script": "tests.serving.gateways:steady", "token_seconds": 0.05}
    recipe = served_recipe(engine=engine, serve={"weights": {"student": 1}, "shadow_share": 1, "shadow_concurrent": 1})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        answered = [ask(address) for _ in range(2)]
        wait_for_shadow(tmp_path)
    requests, shadows = stored(tmp_path), stored(tmp_path, "shadows")
    assert len(requests) == 2
    # The second came while the first's shadow was on its way: more than one is not allowed.
    [shadow] = shadows
    assert shadow["request_id"] == answered[0].id
    assert (shadow["arm"], shadow["shadow"], shadow["agreement"]) == ("student", "teacher", 1.0)
    assert shadow["seconds"] > 2 * requests[0]["seconds"]


async def test_no_shadow_where_the_arm_was_asked_for_or_the_other_one_is_busy(tmp_path: Path) -> None:
    serve = {"weights": {"student": 1}, "shadow_share": 1, "teacher": {"concurrent_requests": 1}}
    gateway = make_gateway(served_recipe(serve=serve), tmp_path)
    await gateway.open()
    await gateway.router.answer(gateway.router.assign(question("s2d:student"), Asker("ada")))
    async with gateway.admission["teacher"].slot():
        await gateway.router.answer(gateway.router.assign(question("s2d"), Asker("ada")))
    await asyncio.sleep(0.3)
    assert stored(tmp_path, "shadows") == []
    context = gateway.router.assign(question("s2d"), Asker("ada"))
    await gateway.router.answer(context)
    while not stored(tmp_path, "shadows"):
        await asyncio.sleep(0.05)
    await gateway.close()
    assert [shadow["request_id"] for shadow in stored(tmp_path, "shadows")] == [context.request_id]


class Restarting(LocalController):
    """A controller that is not there the first time it is told something."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.told: list[str] = []
        self._away = True

    async def observe(self, events: Sequence[RequestEvent], lost: Lost) -> ExperimentState:
        if events and self._away:
            self._away = False
            raise ConnectionError("restarting")
        self.told += [event.request_id for event in events]
        return await super().observe(events, lost)


async def test_a_controller_that_comes_back_is_told_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2d_ray.serving.gateway.SYNC_SECONDS", 0.05)
    recipe = served_recipe()
    controller = Restarting(Controller(recipe, RunFolders(tmp_path)))
    gateway = make_gateway(recipe, tmp_path, controller=controller)
    await gateway.open()
    contexts = [gateway.router.assign(question("s2d"), Asker("ada")) for _ in range(3)]
    for context in contexts:
        await gateway.router.answer(context)
    async with asyncio.timeout(20):
        while len(controller.told) < 3:
            await asyncio.sleep(0.05)
    await gateway.close()
    assert controller.told == [context.request_id for context in contexts]


def wait_for_shadow(base: Path) -> None:
    deadline = time.monotonic() + 20
    while not stored(base, "shadows"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("student", [1, 0])
@pytest.mark.parametrize(
    ("script", "judge", "agreement", "error"),
    [
        ("longer_and_likes_it", None, 0.0, ""),
        ("longer_and_likes_it", {"name": "direct"}, 0.0, ""),
        # Worse in one order only is not worse.
        ("likes_the_first", {"name": "direct"}, 1.0, ""),
        ("gives_no_verdict", {"name": "direct"}, None, "MalformedOutput"),
        ("steady", {"name": "direct"}, 1.0, ""),
    ],
)
def test_a_judge_compares_answers_that_differ(
    tmp_path: Path, script: str, judge: object, agreement: float | None, error: str, student: int
) -> None:
    serve = {"weights": {"student": student}, "shadow_share": 1, "shadow_judge": judge}
    recipe = served_recipe(engine={"kind": "scripted", "script": f"tests.serving.gateways:{script}"}, serve=serve)
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        ask(address)
        wait_for_shadow(tmp_path)
    [shadow] = stored(tmp_path, "shadows")
    assert (shadow["agreement"], shadow["error"]) == (agreement, error)


@pytest.mark.parametrize(("threshold", "escalated"), [(0.5, False), (None, True)])
def test_a_cascade_asks_the_teacher_where_the_student_is_not_sure(
    tmp_path: Path, threshold: float | None, escalated: bool
) -> None:
    recipe = served_recipe(
        engine={"kind": "scripted", "script": "tests.serving.gateways:steady"},
        evaluate={"samples": 3, "sampling": {"temperature": 0.5}},
        serve={"weights": {"student": 1}, "cascade": {"confidence": "votes", "samples": 3}},
    )
    assert recipe.serve.cascade is not None
    gateway = make_gateway(recipe, tmp_path, Confidence(recipe.serve.cascade, threshold))
    with serving(gateway, recipe) as address:
        answer = ask(address, extra_body={"s2d": {"trace": True}}).model_dump()
    names = [step["name"] for step in answer["s2d"]["steps"]]
    assert names == ["answer"] * 3 + (["rewrite", "respond"] if escalated else [])
    assert answer["s2d"]["arm"] == ("teacher" if escalated else "student")
    [row] = stored(tmp_path)
    assert (row["arm"], row["escalated"], row["confidence"]) == ("student", escalated, 1.0)
