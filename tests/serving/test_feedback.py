"""Feedback against the experiment's rules: one say for each client, once for each answer, and nobody else's."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.serving.auth import network_of
from tests.serving.gateways import QUESTION, ask, make_gateway, served_recipe, serving
from tests.serving.test_web import get, post, stored

KEYS = {"KEYS": "first-key-of-a-client,second-key-of-a-client", "TOKEN": "token-of-the-admin"}
TRACE: dict[str, Any] = {"s2d": {"trace": True}}
HALF: Mapping[str, Any] = {"weights": {"student": 0.5}, "margin": 0.5}
PATH = "/ab/feedback"


def rate(address: str, request_id: str, score: float = 1, **headers: str) -> tuple[int, str]:
    """Status, and what is said where it is refused."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, body = post(address, PATH, {"request_id": request_id, "score": score}, named)
    return status, body.get("error", {}).get("message", "")


def rate_for_the_student(address: str, count: int) -> None:
    """As many users as requests, who like the student's answers alone."""
    for number in range(count):
        answer = ask(address, user=f"user {number}", extra_body=TRACE)
        assert rate(address, answer.id, answer.s2d["arm"] == "student", x_s2d_user=f"user {number}")[0] == 200


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page[page.index("<body>") : page.index("<script nonce")]))


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [False, True])
def test_one_client_promotes_nothing_unless_it_may_speak_for_many_users(tmp_path: Path, trusted: bool) -> None:
    recipe = served_recipe(serve={**HALF, "trust_clients": trusted})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        rate_for_the_student(address, 150)
        said = words(get(address, "/ab")[1])
    assert "150 of them rated" in said
    assert ("Promote Distilled System 1" in said) == trusted
    assert ("Few clients give most of the ratings Half of them come from 1." in said) == (not trusted)
    assert "Few users" not in said


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as at:
        yield at


def test_an_answer_is_rated_once(address: str, tmp_path: Path) -> None:
    request_id = ask(address).id
    assert rate(address, request_id, 0.25) == (200, "")
    assert rate(address, request_id, 1) == (400, "this answer has been rated")
    assert [row["score"] for row in stored(tmp_path, "feedback")] == [0.25]


@pytest.mark.parametrize("request_id", ["x", "chatcmpl-", "chatcmpl-" + "A" * 48, "chatcmpl-0123456789abcdef" * 4])
def test_a_request_that_never_was_is_not_rated(address: str, tmp_path: Path, request_id: str) -> None:
    status, said = rate(address, request_id)
    assert (status, "no answer of this server" in said) == (400, True)
    assert stored(tmp_path, "feedback") == []


def test_only_the_user_who_asked_rates(address: str) -> None:
    request_id = ask(address, user="ada").id
    assert rate(address, request_id)[0] == 400
    assert rate(address, request_id, x_s2d_user="eve")[0] == 400
    assert rate(address, request_id, cookie="s2d_user=eve")[0] == 400
    assert rate(address, request_id, x_s2d_user="ada")[0] == 200


@pytest.mark.parametrize("user", ["Zoë", "田中", " ada "])
def test_a_name_that_no_header_can_hold_is_said_in_the_body(address: str, user: str) -> None:
    first, second = (ask(address, user=user).id for _ in range(2))
    assert post(address, PATH, {"request_id": first, "score": 1, "user": user}, {}) == (200, {"status": "stored"})
    assert post(address, PATH, {"request_id": second, "score": 1, "user": "eve"}, {})[0] == 400


def test_a_browser_that_was_told_its_name_with_the_answer_rates_it(address: str) -> None:
    first = ask(address).id
    assert rate(address, first, cookie="s2d_user=0123")[0] == 200
    second = ask(address, extra_headers={"cookie": "s2d_user=0123"}).id
    assert rate(address, second)[0] == 400
    assert rate(address, second, cookie="s2d_user=0123")[0] == 200


def test_only_the_key_that_asked_rates(tmp_path: Path) -> None:
    recipe = served_recipe(serve={"api_keys_env": "KEYS"})
    first, second = (f"Bearer {key}" for key in KEYS["KEYS"].split(","))
    with serving(make_gateway(recipe, tmp_path), recipe, KEYS) as address:
        body = {"model": "s2d", "messages": [{"role": "user", "content": QUESTION}], "user": "ada"}
        request_id = post(address, "/v1/chat/completions", body, {"authorization": first})[1]["id"]
        assert rate(address, request_id, x_s2d_user="ada", authorization=second)[0] == 400
        assert rate(address, request_id, x_s2d_user="ada", authorization=first)[0] == 200


def test_after_a_while_an_answer_is_rated_no_more(tmp_path: Path) -> None:
    recipe = served_recipe(serve={"feedback_hours": 1e-9})
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        status, said = rate(address, ask(address).id)
    assert (status, "answers may be rated for" in said) == (400, True)


def test_two_gateways_know_each_others_requests_and_one_rating_of_each_counts(tmp_path: Path) -> None:
    recipe = served_recipe()
    one, other = make_gateway(recipe, tmp_path), make_gateway(recipe, tmp_path)
    with serving(one, recipe) as first, serving(other, recipe) as second:
        request_id = ask(first).id
        assert rate(second, request_id, 0)[0] == 200
        assert rate(first, request_id, 1)[0] == 200
        assert len(stored(tmp_path, "feedback")) == 2
        assert "1 of them rated" in words(get(second, "/ab")[1])
        assert "1 of them rated" in words(get(first, "/ab")[1])


def public(**serve: object) -> Recipe:
    """Reached by other machines, as far as the server knows."""
    return served_recipe(serve={"host": "0.0.0.0", "admin_token_env": "TOKEN", **serve})


@pytest.mark.parametrize(("tell", "token", "told"), [(False, "", 403), (False, "TOKEN", 200), (True, "", 200)])
def test_which_arm_answered_is_told_to_the_admin_or_where_the_recipe_says(
    tmp_path: Path, tell: bool, token: str, told: int
) -> None:
    recipe = public(tell_arms=tell)
    body = {"model": "s2d", "messages": [{"role": "user", "content": QUESTION}]}
    headers = {ADMIN_HEADER: KEYS[token]} if token else {}
    with serving(make_gateway(recipe, tmp_path), recipe, KEYS) as address:
        assert post(address, "/v1/chat/completions", {**body, **TRACE}, {ADMIN_HEADER: "wrong"})[0] in (403, told)
        status, answer = post(address, "/v1/chat/completions", {**body, **TRACE}, headers)
        untraced = post(address, "/v1/chat/completions", body)[1]
    assert (status, "s2d" in answer, "s2d" in untraced) == (told, told == 200, False)
    if told == 403:
        assert answer["error"]["type"] == "permission_error"


def test_the_page_is_behind_a_key_where_other_machines_reach_it(tmp_path: Path) -> None:
    recipe = public(api_keys_env="KEYS")
    key = KEYS["KEYS"].split(",")[1]

    def basic(password: str) -> Mapping[str, str]:
        return {"authorization": "Basic " + b64encode(f"anyone:{password}".encode()).decode()}

    wrong: list[Mapping[str, str]] = [{}, basic(""), basic("wrong"), {"authorization": "Basic é"}, {ADMIN_HEADER: ""}]
    right: list[Mapping[str, str]] = [
        basic(KEYS["TOKEN"]),
        basic(key),
        {"authorization": f"Bearer {key}"},
        {ADMIN_HEADER: KEYS["TOKEN"]},
    ]
    with serving(make_gateway(recipe, tmp_path), recipe, KEYS) as address:
        for headers in wrong:
            status, said = get(address, "/ab", headers)
            assert (status, "password" in said) == (401, True)
        assert [get(address, "/ab", headers)[0] for headers in right] == [200] * 4


def test_a_roll_back_and_a_promotion_never_stand_beside_each_other(tmp_path: Path) -> None:
    recipe = served_recipe(serve={**HALF, "trust_clients": True})
    change = {"action": "roll back", "who": "ada", "why": "a try", "version": 1}
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        assert post(address, "/ab/change", change, {ADMIN_HEADER: ""})[0] == 200
        said = words(get(address, "/ab")[1])
    assert "Rolled back: System 2 answers everyone" in said
    assert "Keep System 2 The experiment was rolled back: find out why" in said


HOSTILE_NAMES = ("x" * 513, "x" * 60_000)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("header", ["x-s2d-user", "cookie"])
def test_a_name_that_is_too_long_is_the_clients_mistake(address: str, header: str, name: str) -> None:
    headers = {header: f"s2d_user={name}" if header == "cookie" else name}
    body = {"model": "s2d", "messages": [{"role": "user", "content": QUESTION}]}
    status, answer = post(address, "/v1/chat/completions", body, headers)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_names_of_addresses_are_what_a_client_cannot_leave() -> None:
    random = Random(0)
    six = {network_of(f"2001:db8:1:2:{random.getrandbits(16):x}::{random.getrandbits(16):x}") for _ in range(20)}
    assert six == {"2001:db8:1:2::/64"}
    assert network_of("::ffff:10.0.0.7") == network_of("10.0.0.7") == "10.0.0.7"
    assert network_of("::ffff:10.0.0.8") != network_of("10.0.0.7")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == ""
