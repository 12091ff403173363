"""Requests that no honest client sends, as a client meets the server: each is answered, and none by a 5xx."""

import http.client
import json
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from s2d_ray.data.records import Completion, Message
from s2d_ray.experiment.state import read_state
from s2d_ray.inference.scripted import ScriptedEngine
from s2d_ray.recipes.sections import Sampling
from tests.serving.gateways import QUESTION, ask, make_gateway, served_recipe, serving
from tests.serving.test_clients import NEUTRAL_CHAT, NEUTRAL_TEXT, OTHER_CHAT
from tests.serving.test_web import post, stored

REQUESTS, TIMEOUT = 1500, 60
CHAT, TEXT, FEEDBACK, CHANGE = "/v1/chat/completions", "/v1/completions", "/ab/feedback", "/ab/change"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]


class AnyForm(ScriptedEngine):
    """Says the same whatever form is asked for: a real engine gives it that form."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int, seed: int) -> list[Completion]:
        return await super().complete(messages, sampling.model_copy(update={"answer_format": None}), n, seed)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int
    ) -> AsyncGenerator[str | Completion, None]:
        return super().stream(messages, sampling.model_copy(update={"answer_format": None}), seed)


def deep(levels: int) -> Any:
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


VALUES: Sequence[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**300,
    10**4200,
    0.5,
    -0.0,
    1e-320,
    1e308,
    "",
    " ",
    "\0",
    "a" * 65,
    "a" * 5000,
    "\u202e\ufeff\U0001f600",
    "null",
    "0x10",
    "s2d:student",
    "text",
    "json_object",
    [],
    [""],
    ["a"] * 5,
    [None],
    [[]],
    ["x" * 65],
    {},
    {"": ""},
    {"trace": True},
    {"trace": "yes"},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$id": "http://[", "$ref": "#/a"}}},
    {"type": "json_schema", "json_schema": {"schema": {"pattern": "(", "type": "string"}}},
    {"json": "[" * 100_000},
    {"json": '{"const": "\\ud800"}'},
    {"json": '{"maximum": 1' + "0" * 5000 + "}"},
    {"json": {"$schema": "http://json-schema.org/draft-03/schema#", "type": "any"}},
    {"regex": "(" * 4000},
    {"regex": "(?P<a>x)(?P=b)"},
    {"regex": "a{99999999999}"},
    {"choice": ["a"] * 2},
    {"choice": [str(i) for i in range(1001)]},
    {"include_usage": True, "include_obfuscation": None},
    [{"role": "user", "content": [{"type": "text", "text": "a"}] * 50}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": {}}],
    [{"role": "user", "content": ""}],
    [{"role": "system", "content": "a"}] * 1001,
    [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "user", "content": "a", "name": "n" * 600}],
    deep(190),
]
FIELDS = [*NEUTRAL_CHAT, *NEUTRAL_TEXT, *OTHER_CHAT, "model", "messages", "prompt", "seed", "max_tokens", "stop", "s2d"]
FIELDS += ["max_completion_tokens", "temperature", "top_p", "stream", "stream_options", "structured_outputs", "user"]
FIELDS += ["request_id", "score", "preference", "action", "weights", "who", "why", "version", "\0", "__class__"]
BASES: Sequence[tuple[str, dict[str, Any]]] = [
    (CHAT, {"model": "s2d", "messages": MESSAGES}),
    (CHAT, {"model": "s2d:teacher", "messages": MESSAGES, "stream": True}),
    (TEXT, {"model": "s2d:student", "prompt": "?"}),
    (TEXT, {"model": "s2d", "prompt": "?", "stream": True}),
    (FEEDBACK, {"request_id": "chatcmpl-x", "score": 1}),
    (CHANGE, {"action": "weights", "who": "a", "why": "b", "version": 10**9}),
]
HEADERS: Sequence[dict[str, str]] = [
    {},
    {},
    {},
    {"content-type": "text/plain"},
    {"content-type": "application/json; charset=utf-7"},
    {"content-encoding": "gzip"},
    {"x-s2d-user": "u" * 600},
    {"x-s2d-user": "\xff\xfe"},
    {"cookie": "s2d_user=" + "c" * 3000},
    {"cookie": "=;;;s2d_user"},
    {"authorization": "Basic %%%"},
    {"authorization": "\xe9"},
    {"host": "[::1"},
    {"host": "127.0.0.1:99999999"},
    {"x-s2d-admin": "\xff"},
    {"expect": "100-continue"},
]
PATHS = [
    "/",
    "/ab/",
    "/v1",
    "/v1/models/",
    "/v1/models/%00",
    "/v1/models/%ff%fe",
    "/v1/models/a%2Fb",
    "/v1/" + "a" * 3000,
]
PATHS += ["/ab?%", "/healthz", "/v1/models/s2d", "//ab", "/ab/../v1/models", "/v1/chat/completions/", "/%2e%2e"]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]


def content(random: Random, base: dict[str, Any]) -> bytes:
    """A body with some fields of a hostile kind, or one that is no JSON of an object at all."""
    if random.random() < 0.1:
        whole = json.dumps(base).encode()
        return random.choice(
            [
                b"",
                b"null",
                b"[" * 5000,
                b"\xff\xfe",
                whole[: random.randrange(len(whole))],
                whole.replace(b"}", b', "seed": NaN}', 1),
                whole.replace(b"}", b', "user": "\\ud800"}', 1),
                whole + b"}",
                b'{"a": ' * 300 + b"1" + b"}" * 300,
                random.randbytes(200),
            ]
        )
    changed = base | {random.choice(FIELDS): random.choice(VALUES) for _ in range(random.randrange(1, 4))}
    if random.random() < 0.1:
        changed.pop(random.choice(list(base)), None)
    return json.dumps(changed).encode()


def sent(
    address: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content; raises where the server closes the connection or hangs."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    engine = {"kind": "scripted", "script": "tests.serving.gateways:steady"}
    recipe = served_recipe(engine=engine, serve={"weights": {"student": 0.5}, "guardrails": {"error_rate": 0.05}})
    with serving(make_gateway(recipe, tmp_path, engine=AnyForm(recipe.engine)), recipe) as address:
        yield address


def refused_as_openai_does(status: int, headers: dict[str, str], answer: bytes) -> bool:
    error = json.loads(answer)["error"]
    return headers["content-type"] == "application/json" and set(error) == {"message", "type", "param", "code"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_of_many_hostile_requests_none_fails_hangs_or_goes_unanswered(server: str, tmp_path: Path) -> None:
    random, statuses = Random(2026), Counter[int]()
    for number in range(REQUESTS):
        headers = random.choice(HEADERS)
        if random.random() < 0.1:
            method, path, body = random.choice(METHODS), random.choice(PATHS), b""
        else:
            path, base = random.choice(BASES)
            method, body = "POST", content(random, base)
        status, given, answer = sent(server, method, path, body, headers)
        told = (number, method, path, headers, body[:300], status, answer[:300])
        statuses[status] += 1
        assert status < 500, told
        if status >= 400 and method != "HEAD":
            assert refused_as_openai_does(status, given, answer), told
        # What goes wrong in a stream after its beginning is said in it.
        assert b"server_error" not in answer, told
    assert statuses[200] > REQUESTS / 50, statuses
    assert statuses[400] > REQUESTS / 5, statuses
    assert ask(server, user="ada").choices[0].message.content
    assert read_state(tmp_path / "serving" / "experiment.json").status == "running"
    assert {row["outcome"] for row in stored(tmp_path)} <= {"answered", "refused", "cancelled"}


RAW: Sequence[bytes] = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /ab HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    b"GET /ab HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.long
@pytest.mark.parametrize("raw", RAW)
def test_what_is_no_request_is_refused_and_the_server_goes_on(server: str, raw: bytes) -> None:
    where = urlsplit(server)
    with socket.create_connection((str(where.hostname), where.port), timeout=TIMEOUT) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(100)
        except ConnectionResetError:  # It was closed with something unread, which is an answer too.
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 200"))
    assert ask(server).choices[0].message.content


@pytest.mark.long
def test_clients_that_go_away_in_the_middle_leave_nothing_behind(server: str, tmp_path: Path) -> None:
    where = urlsplit(server)
    body = json.dumps({"model": "s2d", "messages": MESSAGES, "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".encode()
    for number in range(100):
        with socket.create_connection((str(where.hostname), where.port), timeout=TIMEOUT) as connection:
            connection.sendall(head + f"content-length: {len(body)}\r\n\r\n".encode() + body[: len(body) - number % 2])
    assert ask(server).choices[0].message.content
    assert {row["outcome"] for row in stored(tmp_path)} <= {"answered", "cancelled"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("structured_outputs", {"json": "[" * 100_000}),
        ("structured_outputs", {"json": '{"const": "\\ud800"}'}),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("max_tokens", 10**300),
        ("stop", ["."] * 5),
        ("stop", ["." * 65]),
        ("messages", [*MESSAGES] * 1001),
        ("metadata", {"a": "x" * 20_000}),
        ("model", "x" * 101),
    ],
)
def test_what_is_out_of_bounds_is_the_clients_mistake(server: str, tmp_path: Path, field: str, value: Any) -> None:
    status, answer = post(server, CHAT, {"model": "s2d", "messages": MESSAGES, field: value})
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert answer["error"]["param"].startswith(field)
    assert stored(tmp_path) == []
