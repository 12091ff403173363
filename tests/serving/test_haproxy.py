"""HAProxy before a gateway: clients that send slowly, many connections, TLS, what it listens at, how it ends."""

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from s2d_ray.data.folders import RunFolders
from s2d_ray.doctor import listening
from s2d_ray.experiment.controller import events_folder
from s2d_ray.experiment.store import Snapshot
from s2d_ray.serving import http
from s2d_ray.serving.haproxy import CERTIFICATE, FOLDER, HOST, KEY
from s2d_ray.serving.haproxy_config import (
    ADDRESS_CONNECTIONS,
    CLIENT_SECONDS,
    MOST_CONNECTIONS,
    REQUEST_SECONDS,
    Edge,
    connections_within,
    for_clients,
)
from s2d_ray.serving.leftovers import RECORD
from tests.heads import wait_for
from tests.serving.certificates import self_signed
from tests.serving.gateways import ask, make_gateway, served_recipe, serving
from tests.serving.haproxies import S2D_HAPROXY, before, connect, listens, rays_config, room_for
from tests.serving.test_web import GREEDY

pytestmark = pytest.mark.slow
HALF_HEADER = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
HALF_BODY = HALF_HEADER + b'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"model": '
SLOW_CLIENTS = 10_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """Address of a gateway."""
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as address:
        yield address


@pytest.mark.parametrize("half", [HALF_HEADER, HALF_BODY], ids=["header", "body"])
def test_a_half_sent_request_is_given_up_in_seconds(gateway: str, half: bytes) -> None:
    with before(gateway) as (port, _), connect(port) as client:
        client.sendall(half)
        begun = time.monotonic()
        client.settimeout(REQUEST_SECONDS + 5)
        assert client.recv(64).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun > REQUEST_SECONDS - 1


def test_a_body_that_haproxy_cannot_hold_is_waited_for_by_the_gateway(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.5)
    size = 100_000
    header = HALF_HEADER + f"content-type: application/json\r\ncontent-length: {size}\r\n\r\n".encode()
    with before(gateway) as (port, _), connect(port) as client:
        client.sendall(header + b"x" * (size - 1))
        client.settimeout(REQUEST_SECONDS / 2)
        assert client.recv(64).startswith(b"HTTP/1.1 408")


def test_all_but_what_clients_ask_is_for_this_machine_alone(gateway: str) -> None:
    with before(gateway, {HOST: "0.0.0.0"}) as (port, process):
        sockets = psutil.Process(process.pid).net_connections(kind="tcp")
        places = {(c.laddr.ip, c.laddr.port) for c in sockets if c.status == psutil.CONN_LISTEN}
        assert ("0.0.0.0", port) in places
        assert len(places) == 3
        assert {ip for ip, other in places if other != port} == {"127.0.0.1"}
        # `s2d doctor` names what is left.
        assert {place: who for place, who in listening().items() if str(port) in place} == {
            f"0.0.0.0:{port}": "haproxy"
        }


def test_a_client_cannot_say_from_which_address_it_comes(tmp_path: Path) -> None:
    """Where there are no keys an address has one say in ratings, so it must be the one that connects."""
    recipe = served_recipe()
    with serving(make_gateway(recipe, tmp_path), recipe) as gateway, before(gateway) as (port, _):
        for number in range(3):
            said = {"x-forwarded-for": f"203.0.113.{number}", "forwarded": f"for=203.0.113.{number}"}
            ask(f"http://127.0.0.1:{port}", extra_headers=said)
    stored = Snapshot(events_folder(RunFolders(tmp_path))).requests.to_table()["rater"].to_pylist()
    assert len(stored) == 3 and len(set(stored)) == 1


def test_it_speaks_tls_with_the_certificate_of_the_recipe(gateway: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    trusting = ssl.create_default_context(cafile=certificate)
    with before(gateway, {CERTIFICATE: str(certificate), KEY: str(key)}) as (port, _):
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", context=trusting, timeout=30) as response:
            assert response.status == 200
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30)


def test_it_ends_with_the_process_that_started_it_and_is_on_record(gateway: str, tmp_path: Path) -> None:
    file = rays_config(tmp_path, port := 8131, gateway)
    starts = f"import subprocess, time; subprocess.Popen({[*S2D_HAPROXY, '-db', '-f', str(file)]}); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", starts], env=os.environ | {FOLDER: str(tmp_path)})
    try:
        wait_for(lambda: listens(port))
        [haproxy] = psutil.Process(parent.pid).children()
        assert f'{haproxy.pid}, "' in (tmp_path / RECORD).read_text()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not listens(port))


def test_a_configuration_that_is_another_is_not_started(gateway: str, tmp_path: Path) -> None:
    config = rays_config(tmp_path, 8131, gateway).read_text()
    assert "timeout http-request 10s" in for_clients(config, Edge())
    with pytest.raises(ValueError, match="0 lines like"):
        for_clients(config.replace("timeout client", "timeout clients"), Edge())


def test_so_many_connections_as_the_machine_has_files_for() -> None:
    assert connections_within(10**6) == MOST_CONNECTIONS
    assert connections_within(4096) == 3072


@pytest.mark.long
def test_ten_thousand_half_sent_requests_keep_nobody_out(gateway: str) -> None:
    """From one address, which the others, and at first its own people, do not feel."""
    with before(gateway) as (port, _), room_for(SLOW_CLIENTS + 1000), ExitStack() as stack:
        for number in range(SLOW_CLIENTS):
            client = stack.enter_context(connect(port))
            client.sendall(HALF_HEADER if number % 2 else HALF_BODY)
        begun = time.monotonic()
        assert ask(f"http://127.0.0.1:{port}").choices[0].message.content
        assert time.monotonic() - begun < REQUEST_SECONDS / 2


@pytest.mark.long
def test_one_address_cannot_take_every_place(gateway: str) -> None:
    """With as many slow clients as there are places at all, where a machine may open few files."""
    files = 4096
    few = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "bash", *S2D_HAPROXY]
    places = connections_within(files)
    with before(gateway, command=few) as (port, _), ExitStack() as stack:
        for _ in range(places):
            # Past its share it is turned away.
            with suppress(ConnectionError):
                stack.enter_context(connect(port, "127.0.0.2")).sendall(HALF_HEADER)
        assert places > 2 * ADDRESS_CONNECTIONS
        begun = time.monotonic()
        assert ask(f"http://127.0.0.1:{port}").choices[0].message.content
        assert time.monotonic() - begun < REQUEST_SECONDS / 2
        with pytest.raises((ConnectionError, urllib.error.URLError)), connect(port, "127.0.0.2") as refused:
            refused.sendall(HALF_HEADER)
            if not refused.recv(1):
                raise ConnectionResetError


@pytest.mark.long
def test_an_answer_may_take_longer_than_a_client_may_be_silent(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "script": "tests.serving.gateways:slow", "token_seconds": (CLIENT_SECONDS + 10) / 40}
    recipe = served_recipe(engine=engine, evaluate={"sampling": GREEDY})
    with serving(make_gateway(recipe, tmp_path), recipe) as address, before(address) as (port, _):
        begun = time.monotonic()
        assert ask(f"http://127.0.0.1:{port}").usage.completion_tokens == 40
        assert time.monotonic() - begun > CLIENT_SECONDS
