"""What clients send beyond the question, and what they get for their mistakes."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from s2d_ray.data.records import content_id
from s2d_ray.errors import UserError
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.serving.responders import Confidence
from s2d_ray.tasks.asking import asked
from s2d_ray.tasks.registry import load_task
from tests.serving.gateways import (
    QUESTION,
    THOUGHT,
    ThinkingEngine,
    ask,
    client,
    make_gateway,
    person,
    served_recipe,
    serving,
)
from tests.serving.test_web import get, post, stored

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]


def scripted(script: str, **sections: object) -> Recipe:
    """A recipe over a script for these tests."""
    engine = {"kind": "scripted", "script": f"tests.serving.gateways:{script}"}
    return served_recipe(engine=engine, **sections)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that all requests of these tests may share."""
    recipe = scripted("choosy", serve={"weights": {"student": 1}, "max_body_kib": 2000})
    with serving(make_gateway(recipe, tmp_path_factory.mktemp("served")), recipe) as at:
        yield at


NEUTRAL: Mapping[str, Any] = {
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "n": 1,
    "stop": [],
    "stream": None,
    "stream_options": None,
    "response_format": {"type": "text"},
    "structured_outputs": None,
    "store": True,
    "metadata": {"session": "1"},
    "service_tier": "auto",
    "user": "ada",
    "safety_identifier": "ada",
    "prompt_cache_key": "few-shot",
    "prompt_cache_retention": "24h",
}
NEUTRAL_CHAT = {
    **NEUTRAL,
    "logprobs": False,
    "top_logprobs": 0,
    "tools": [],
    "functions": None,
    "tool_choice": "auto",
    "function_call": "none",
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "audio": None,
    "prediction": None,
    "verbosity": "medium",
    "reasoning_effort": None,
    "web_search_options": None,
    "include_reasoning": True,
}
NEUTRAL_TEXT = {**NEUTRAL, "logprobs": None, "best_of": 1, "echo": False, "suffix": None}


def test_values_that_change_no_answer_are_taken(address: str) -> None:
    plain = {"model": "s2d:student", "seed": 1}
    status, chat = post(address, CHAT, {**plain, "messages": MESSAGES})
    assert status == 200
    neutral: list[tuple[str, dict[str, Any], Mapping[str, Any]]] = [
        (CHAT, {"messages": MESSAGES}, NEUTRAL_CHAT),
        (TEXT, {"prompt": [QUESTION]}, NEUTRAL_TEXT),
    ]
    for path, question, fields in neutral:
        for each in (fields, dict.fromkeys(fields)):
            status, body = post(address, path, {**plain, **question, **each})
            assert status == 200, body
            [choice] = body["choices"]
            assert (
                choice.get("text", choice.get("message", {}).get("content")) == chat["choices"][0]["message"]["content"]
            )
            assert choice["logprobs"] is None


OTHER: Mapping[str, Any] = {
    "presence_penalty": 0.5,
    "frequency_penalty": -1,
    "logit_bias": {"50256": -100},
    "n": 2,
    "top_k": 5,
}
OTHER_CHAT = {
    **OTHER,
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "functions": [{"name": "f"}],
    "tool_choice": "required",
    "function_call": {"name": "f"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "ash", "format": "wav"},
    "prediction": {"type": "content", "content": "7"},
    "verbosity": "low",
    "reasoning_effort": "high",
    "web_search_options": {},
    "chat_template": "{{ messages }}",
}
OTHER_TEXT = {**OTHER, "logprobs": 0, "best_of": 2, "echo": True, "suffix": "?", "prompt": ["one", "two"]}


def test_values_that_would_change_the_answer_are_refused_by_name(address: str) -> None:
    for path, question, fields in ((CHAT, {"messages": MESSAGES}, OTHER_CHAT), (TEXT, {"prompt": "?"}, OTHER_TEXT)):
        for name, value in fields.items():
            status, body = post(address, path, {"model": "s2d", **question, name: value})
            error = body["error"]
            assert (status, error["type"], error["param"]) == (400, "invalid_request_error", name)
            assert name in error["message"]


ECHOED: Mapping[str, Any] = {
    "role": "assistant",
    "content": "answer 4",
    "refusal": None,
    "tool_calls": None,
    "function_call": None,
    "audio": None,
    "annotations": [],
    "reasoning": THOUGHT,
    "reasoning_content": THOUGHT,
}


def test_a_conversation_comes_back_as_clients_keep_it(address: str) -> None:
    before = [{"role": "developer", "content": "Be brief."}, {**MESSAGES[0], "name": "ada"}]
    parts = [{"type": "text", "text": "And "}, {"type": "text", "text": "of case 13?"}]
    chat = [*before, ECHOED, {"role": "user", "content": parts}]
    same = [{"role": "system", "content": "Be brief."}, *MESSAGES, {"role": "assistant", "content": "answer 4"}]
    same.append({"role": "user", "content": "And of case 13?"})
    given = [post(address, CHAT, {"model": "s2d:student", "seed": 1, "messages": each}) for each in (chat, same)]
    assert [status for status, _ in given] == [200, 200]
    assert given[0][1]["choices"] == given[1][1]["choices"]
    with client(address) as asking:
        answered = asking.chat.completions.create(model="s2d", messages=MESSAGES)
        echoed: Any = [*MESSAGES, answered.choices[0].message, *MESSAGES]
        assert asking.chat.completions.create(model="s2d", messages=echoed).choices[0].message.content


@pytest.mark.parametrize(
    ("chat", "problem"),
    [
        ([ECHOED], "its last message"),
        ([*MESSAGES, ECHOED], "its last message"),
        ([{"role": "tool", "content": "7"}], "messages.0.role"),
        ([{"role": "user", "content": None}], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "a part of type text has a text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "only text"),
        ([{**ECHOED, "tool_calls": [{"id": "1"}]}, *MESSAGES], "messages.0.tool_calls: not supported"),
        ([{**ECHOED, "refusal": "No."}, *MESSAGES], "messages.0.refusal: not supported"),
        ([{"role": "user", "content": "[refused]"}], "roles must alternate"),
        ([{"role": "user", "content": "[long]"}], "max_model_len is 768"),
    ],
)
def test_a_chat_that_cannot_be_answered_is_the_clients_mistake(address: str, chat: object, problem: str) -> None:
    for stream in (False, True):
        status, body = post(address, CHAT, {"model": "s2d:student", "messages": chat, "stream": stream})
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
        assert problem in body["error"]["message"] or problem == body["error"]["param"]


def nested(depth: int) -> bytes:
    return b'{"model": "s2d", "messages": [], "metadata": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"stop": [""]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["."] * 5}, "stop"),
        ({"stop": "." * 65}, "stop"),
        ({"user": "\ud800"}, "not JSON"),
        ({"stop": ["\udc00\ud800"]}, "not JSON"),
        ({"messages": [{"role": "user", "content": "\ud83d half a face"}]}, "not JSON"),
        (b'{"model": "s2d", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', "not JSON"),
        (b'{"model": "s2d", "temperature": NaN}', "not JSON"),
        (nested(201), "not JSON: recursion limit"),
        (nested(100_000), "not JSON: recursion limit"),
    ],
)
def test_text_and_nesting_that_no_engine_takes_are_refused_before_it(address: str, body: Any, problem: str) -> None:
    content = body if isinstance(body, bytes) else {"model": "s2d", "messages": MESSAGES, **body}
    status, refused = post(address, CHAT, content)
    assert (status, refused["error"]["type"]) == (400, "invalid_request_error")
    assert problem in refused["error"]["message"]


def test_whole_characters_and_moderate_nesting_are_taken(address: str) -> None:
    face = {"model": "s2d", "messages": [{"role": "user", "content": "\U0001f600"}]}
    assert post(address, CHAT, face)[0] == 200
    assert b"\\ud83d\\ude00" in json.dumps(face).encode()
    assert "messages" in post(address, CHAT, nested(190))[1]["error"]["message"]


def test_errors_have_the_type_that_the_client_knows(address: str) -> None:
    with client(address) as asking:
        assert asking.models.retrieve("s2d:teacher").id == "s2d:teacher"
        with pytest.raises(openai.NotFoundError) as unknown:
            asking.models.retrieve("gpt-4/turbo")
        with pytest.raises(openai.NotFoundError) as no_model:
            asking.chat.completions.create(model="gpt", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError, match="Not Found"):
            asking.embeddings.create(model="s2d", input="?")
        with pytest.raises(openai.BadRequestError) as too_long:
            asking.chat.completions.create(model="s2d", messages=[{"role": "user", "content": "[long]"}])
        with pytest.raises(openai.InternalServerError, match="no answer within 1 s"):
            asking.chat.completions.create(model="s2d", messages=[{"role": "user", "content": "[slow]"}])
    for error in (unknown, no_model):
        assert (error.value.param, error.value.code) == ("model", "model_not_found")
    assert (too_long.value.param, too_long.value.code) == ("messages", "context_length_exceeded")


def test_every_error_is_json_in_the_form_of_openai(address: str) -> None:
    given = {
        404: get(address, "/v1/nothing"),
        405: get(address, CHAT),
        401: get(address, "/v1/models", {"host": "evil.example"}),
    }
    for status, (found, text) in given.items():
        assert found == status
        assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
    assert post(address, CHAT, {}, {"content-type": "text/plain"})[1]["error"]["type"] == "invalid_request_error"


def test_a_bug_of_the_servers_is_json_too_and_quotes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(QUESTION)

    recipe = served_recipe()
    gateway = make_gateway(recipe, tmp_path)
    monkeypatch.setattr(gateway.router, "assign", broken)
    with serving(gateway, recipe) as address:
        status, body = post(address, CHAT, {"model": "s2d", "messages": MESSAGES})
    assert (status, body["error"]["type"], body["error"]["message"]) == (500, "server_error", "the server failed")


@pytest.mark.parametrize(("text", "outcome"), [("[refused]", "refused"), ("[long]", "refused"), ("[slow]", "failed")])
def test_twenty_mistakes_of_clients_roll_nothing_back_and_twenty_failures_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, outcome: str
) -> None:
    monkeypatch.setattr("s2d_ray.serving.gateway.SYNC_SECONDS", 0.05)
    serve = {"weights": {"student": 1}, "guardrails": {"error_rate": 0.05}}
    recipe = scripted("choosy", serve=serve)
    with serving(make_gateway(recipe, tmp_path), recipe) as address, client(address) as asking:
        for number in range(20):
            messages: Any = [{"role": "user", "content": f"{text} {number}"}]
            with pytest.raises(openai.APIStatusError):
                asking.chat.completions.create(model="s2d", messages=messages, user=str(number))
        time.sleep(0.5)
        arm = ask(address, extra_body={"s2d": {"trace": True}}).s2d["arm"]
    assert arm == ("teacher" if outcome == "failed" else "student")
    assert [row["outcome"] for row in stored(tmp_path)][:20] == [outcome] * 20


class Person(BaseModel):
    """What the script says."""

    name: str
    age: int


class City(BaseModel):
    """Something else."""

    city: Literal["Lyon", "Paris"]


def test_a_schema_a_choice_and_a_pattern_reach_the_engine(tmp_path: Path) -> None:
    recipe = scripted("person")
    said = person([], Random(0))
    with serving(make_gateway(recipe, tmp_path), recipe) as address, client(address) as asking:
        for model in ("s2d:student", "s2d:teacher"):
            parsed = asking.chat.completions.parse(model=model, messages=MESSAGES, response_format=Person)
            assert parsed.choices[0].message.parsed == Person(name="Ada", age=36)
            # The scripted engine does not say what it is not asked for.
            with pytest.raises(openai.InternalServerError, match="does not have the form"):
                asking.chat.completions.parse(model=model, messages=MESSAGES, response_format=City)
        forms: list[tuple[int, dict[str, Any]]] = [
            (200, {"response_format": {"type": "json_object"}}),
            (200, {"structured_outputs": {"json": Person.model_json_schema()}}),
            (200, {"structured_outputs": {"json": json.dumps(Person.model_json_schema())}}),
            (200, {"structured_outputs": {"json_object": True}}),
            (200, {"structured_outputs": {"choice": ["yes", said]}}),
            (200, {"structured_outputs": {"regex": r"\{.*\}"}}),
            (500, {"structured_outputs": {"choice": ["yes", "no"]}}),
            (500, {"structured_outputs": {"regex": "[a-z]+"}}),
            (500, {"structured_outputs": {"json": City.model_json_schema()}}),
        ]
        for path, question in ((CHAT, {"messages": MESSAGES}), (TEXT, {"prompt": QUESTION})):
            for status, form in forms:
                assert post(address, path, {"model": "s2d", **question, **form})[0] == status, form


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"response_format": {"type": "json_schema"}}, "json_schema goes with"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}},
            "no JSON schema, at type: 'strin'",
        ),
        ({"structured_outputs": {"json": {"$ref": "http://x.example/y"}}}, "is not in the schema itself"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "("}}, "no regular expression"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", "a"]}}, "texts that are not empty and that differ"),
        ({"structured_outputs": {}}, "exactly one of"),
        ({"structured_outputs": {"grammar": "root ::= 'a'"}}, "unknown key structured_outputs.grammar"),
        (
            {"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "json_object"}},
            "both ask for a form",
        ),
    ],
)
def test_a_form_that_is_none_is_refused(address: str, form: Mapping[str, Any], problem: str) -> None:
    status, body = post(address, CHAT, {"model": "s2d", "messages": MESSAGES, **form})
    assert (status, problem in body["error"]["message"]) == (400, True), body


def test_no_form_is_asked_of_a_method_that_reasons_in_its_answer(tmp_path: Path) -> None:
    recipe = scripted("person", method={"name": "cot"})
    form = {"response_format": {"type": "json_object"}, "messages": MESSAGES}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        given = {name: post(address, CHAT, {**form, "model": name})[0] for name in ("s2d", "s2d:teacher", "s2d:base")}
    assert given == {"s2d": 400, "s2d:teacher": 400, "s2d:base": 200}


def test_thoughts_are_told_apart_from_the_answer(tmp_path: Path) -> None:
    recipe = scripted("steady")
    gateway = make_gateway(recipe, tmp_path, engine=ThinkingEngine(recipe.engine))
    with serving(gateway, recipe) as address, client(address) as asking:
        traced = ask(address, extra_body={"s2d": {"trace": True}}).model_dump()
        message = traced["choices"][0]["message"]
        assert message["content"] == "answer 4"
        assert message["reasoning"] == message["reasoning_content"] == THOUGHT
        assert traced["s2d"]["steps"][0]["thought"] == THOUGHT
        silent = ask(address, extra_body={"include_reasoning": False}).choices[0].message.model_dump()
        assert "reasoning" not in silent
        for model in ("s2d:student", "s2d:teacher"):
            deltas = [
                chunk.choices[0].delta.model_dump()
                for chunk in asking.chat.completions.create(model=model, messages=MESSAGES, stream=True)
            ]
            assert "".join(delta["content"] or "" for delta in deltas) == "answer 4"
            assert "".join(delta.get("reasoning", "") for delta in deltas) == THOUGHT
        assert asking.completions.create(model="s2d", prompt=QUESTION).choices[0].text == "answer 4"


def test_an_arm_that_does_not_think_tells_no_thought(address: str) -> None:
    assert "reasoning" not in ask(address).choices[0].message.model_dump()


def test_the_last_turn_is_asked_as_the_task_asks_it() -> None:
    task = load_task(served_recipe().task)
    turns: Any = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert asked(task, MESSAGES) == task.ask(QUESTION)
    prompt = asked(task, turns)
    assert prompt.messages == turns
    assert prompt.prompt_id == content_id("system: Be brief.", f"user: {QUESTION}")
    with pytest.raises(UserError, match="its last message"):
        asked(task, [*turns, {"role": "assistant", "content": "7"}])


@pytest.mark.parametrize("method", ["s2a", "cot"])
def test_a_clients_stop_text_ends_the_answer_and_not_what_the_method_does_before(tmp_path: Path, method: str) -> None:
    recipe = scripted("writes", method={"name": method})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        for model in ("s2d:teacher", "s2d:student"):
            answer = ask(address, model=model, stop=["\n", "!"]).choices[0]
            assert (answer.message.content, answer.finish_reason) == ("It is 7", "stop"), model


def test_a_client_that_leaves_the_method_no_tokens_is_told_so(tmp_path: Path) -> None:
    with serving(make_gateway(recipe := scripted("writes"), tmp_path), recipe) as address:
        few = {"messages": MESSAGES, "model": "s2d:teacher", "max_tokens": 2}
        status, body = post(address, CHAT, few)
        assert (status, body["error"]["param"]) == (400, "max_tokens")
        assert "max_tokens 2 leaves no room for an answer" in body["error"]["message"]
        # As many as evaluation has: it is no mistake of the client's that the model goes on for ever.
        over = {**few, "max_tokens": recipe.evaluate.sampling.max_tokens}
        with_room = scripted("endless")
    with serving(make_gateway(with_room, tmp_path / "endless"), with_room) as address:
        assert post(address, CHAT, over)[0] == 500


def test_no_form_is_asked_of_a_method_that_a_cascade_may_ask(tmp_path: Path) -> None:
    recipe = scripted(
        "person",
        method={"name": "cot"},
        evaluate={"samples": 3, "sampling": {"temperature": 0.5}},
        serve={"weights": {"student": 1}, "cascade": {"confidence": "votes", "samples": 3}},
    )
    assert recipe.serve.cascade is not None
    gateway = make_gateway(recipe, tmp_path, Confidence(recipe.serve.cascade, None))
    form = {"response_format": {"type": "json_object"}, "messages": MESSAGES, "model": "s2d:student"}
    with serving(gateway, recipe) as address:
        assert post(address, CHAT, form)[0] == 400


def test_a_method_of_ones_own_that_gives_no_form_refuses_one(tmp_path: Path) -> None:
    recipe = scripted("person", method={"name": "tests.scripts:ask_twice"})
    form = {"response_format": {"type": "json_object"}, "messages": MESSAGES, "model": "s2d:teacher"}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        status, body = post(address, CHAT, form)
    assert (status, "no form" in body["error"]["message"]) == (400, True)
    assert [row["outcome"] for row in stored(tmp_path)] == ["refused"]
