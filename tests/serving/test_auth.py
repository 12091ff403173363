"""Who gets in: keys for asking, a token for changing, this machine alone where nothing is secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from s2d_ray.errors import UserError
from s2d_ray.recipes.serve import Serve
from s2d_ray.serving.auth import Access, Denied, check_certificate, load_access
from tests.serving.certificates import self_signed

KEYS = "key-of-the-first-client, key-of-the-second-client"
TOKEN = "a-token-for-the-admin"
ENVIRONMENT = {"KEYS": KEYS, "TOKEN": TOKEN}
LOCAL = {"host": "127.0.0.1:8000"}


def access(**settings: str) -> Access:
    return load_access(Serve.model_validate(settings), ENVIRONMENT)


def may_ask(found: Access, **headers: str) -> bool:
    return allowed(lambda: found.check_ask({**LOCAL, **headers}))


def may_change(found: Access, token: str | None, **headers: str) -> bool:
    return allowed(
        lambda: found.check_change({**LOCAL, **headers, **({} if token is None else {"x-s2d-admin": token})})
    )


def allowed(check) -> bool:  # type: ignore[no-untyped-def]
    try:
        check()
    except Denied:
        return False
    return True


def test_with_keys_only_their_bearers_may_ask() -> None:
    found = access(api_keys_env="KEYS")
    assert may_ask(found, authorization="Bearer key-of-the-first-client")
    assert may_ask(found, authorization="bearer  key-of-the-second-client ")
    for wrong in (
        "",
        "key-of-the-first-client",
        "Basic key-of-the-first-client",
        "Bearer key-of-the-first-clien",
        "Bearer",
    ):
        assert not may_ask(found, authorization=wrong)
    assert not may_ask(found)
    assert not may_ask(found, authorization=f"Bearer {KEYS}")
    assert may_ask(found, host="any.example", authorization="Bearer key-of-the-first-client")


def test_a_key_does_not_change_the_experiment_nor_the_token_ask() -> None:
    found = access(api_keys_env="KEYS", admin_token_env="TOKEN")
    assert may_change(found, TOKEN, host="any.example")
    for wrong in (None, "", TOKEN[:-1], TOKEN + "x", "key-of-the-first-client"):
        assert not may_change(found, wrong)
    assert not may_ask(found, authorization=f"Bearer {TOKEN}")


def test_without_secrets_this_machine_may_do_all_and_no_other_name_may() -> None:
    found = access()
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "LOCALHOST:1"):
        assert may_ask(found, host=host)
        assert may_change(found, "", host=host)
    for host in ("evil.example:8000", "127.0.0.1.evil.example", "", "10.0.0.1", "[", "localhost@evil.example"):
        assert not may_ask(found, host=host)
        assert not may_change(found, "", host=host)


def test_a_change_needs_the_header_that_no_other_site_can_send() -> None:
    assert not may_change(access(), None)


def test_open_to_other_machines_anyone_may_ask_by_any_name_but_not_change() -> None:
    found = access(host="0.0.0.0", admin_token_env="TOKEN")
    assert may_ask(found, host="our.example")
    assert may_change(found, TOKEN, host="our.example")
    assert not may_change(found, "", host="our.example")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "takes a secret from TOKEN, which is not set: export TOKEN="),
        ({"TOKEN": ""}, "takes a secret from TOKEN, which is not set"),
        ({"TOKEN": "short"}, "a secret in TOKEN is shorter than 16 characters"),
        ({"TOKEN": " " * 30}, "a secret in TOKEN is shorter than 16 characters"),
    ],
)
def test_a_missing_or_guessable_secret_is_refused_and_not_shown(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        load_access(Serve(admin_token_env="TOKEN"), environment)
    assert problem in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")


def test_an_empty_key_between_commas_lets_nobody_in() -> None:
    with pytest.raises(UserError, match="a secret in KEYS is shorter"):
        load_access(Serve(api_keys_env="KEYS"), {"KEYS": "key-of-the-first-client,"})


def test_nothing_shows_a_secret() -> None:
    found = access(api_keys_env="KEYS", admin_token_env="TOKEN")
    assert TOKEN not in repr(found)
    assert TOKEN.encode() not in b"".join([*found.api_keys, found.admin_token or b""])
    with pytest.raises(Denied) as caught:
        found.check_change({"x-s2d-admin": "guess"})
    assert TOKEN not in str(caught.value)


def test_a_certificate_that_cannot_be_used_is_said_before_anything_starts(tmp_path: Path) -> None:
    certificate, key = map(str, self_signed(tmp_path, "127.0.0.1"))
    check_certificate(Serve(), own_ray=False)
    check_certificate(Serve(certificate=certificate, key=key), own_ray=True)
    with pytest.raises(UserError, match="on a cluster its ingress holds the certificate"):
        check_certificate(Serve(certificate=certificate, key=key), own_ray=False)
    for wrong in (certificate, str(tmp_path / "none.pem")):
        with pytest.raises(UserError, match="are no certificate with its key, in PEM"):
            check_certificate(Serve(certificate=certificate, key=wrong), own_ray=True)
    with pytest.raises(ValidationError, match="set both or none"):
        Serve(key=key)
