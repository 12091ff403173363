"""The page in a real Chromium, behind its policy: what it shows, what its buttons send, what a hostile text can do."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.page import ADMIN_HEADER, ab_page, content_security_policy
from s2d_ray.experiment.recommendation import recommend
from s2d_ray.experiment.state import Change
from s2d_ray.experiment.store import EventStore
from s2d_ray.experiment.summary import summarise
from s2d_ray.recipes.serve import Serve, Weights
from s2d_ray.recipes.strict import parse
from tests.experiment.test_page import HOSTILE, NONCE, recipe
from tests.experiment.traffic import START, counted, fill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

SERVE = Serve(weights=Weights(student=0.5), admin_token_env="TOKEN")
PRESS = """
const fill = (name, value) => { document.querySelector(`[name=${name}]`).value = value; };
fill("student", "12.5"); fill("base", "2"); fill("who", "ada"); fill("why", "a try"); fill("token", "the token");
document.querySelector("button[value=BUTTON]").click();
"""


class Site:
    """The page over HTTP as the server will send it, with a script that plays the user added at its end."""

    def __init__(self, folder: Path, text: str, user: str) -> None:
        self.experiment = Experiment(folder / "experiment.json", SERVE, START)
        fill(EventStore(folder), 3000, SERVE.weights)
        self.folder, self.text, self.user = folder, text, user
        self.sent: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def page(self) -> str:
        now = START + timedelta(hours=60)
        state = self.experiment.state
        summary = summarise(counted(self.folder, state), state, SERVE, now)
        recommendation = recommend(summary.difference, SERVE.margin, summary.failed_checks)
        html = ab_page(recipe(SERVE, self.text), state, summary, recommendation, now, NONCE)
        return html + (f'<script nonce="{NONCE}">{self.user}</script>' if self.user else "")

    def change(self, headers: Any, body: bytes) -> None:
        self.sent.append({"token": headers[ADMIN_HEADER], "type": headers["content-type"], **json.loads(body)})
        self.experiment.apply(parse(Change, json.loads(body), "change"), START + timedelta(hours=60))


@contextmanager
def served(site: Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            self.answer(200 if self.path == "/ab" else 404, "text/html", site.page())

        def do_POST(self) -> None:
            site.asked.append(self.path)
            site.change(self.headers, self.rfile.read(int(self.headers["content-length"])))
            self.answer(200, "application/json", "{}")

        def answer(self, status: int, kind: str, content: str) -> None:
            self.send_response(status)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-security-policy", content_security_policy(NONCE))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/ab"
        server.shutdown()


def looked_at(site: Site) -> str:
    """The page's elements some seconds after it was opened."""
    assert CHROMIUM
    with served(site) as address:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"]
        return subprocess.run([CHROMIUM, *options, address], capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("button", ["weights", "stop", "roll back"])
def test_a_button_changes_the_experiment_and_the_page_shows_it(tmp_path: Path, button: str) -> None:
    site = Site(tmp_path, "", PRESS.replace("BUTTON", f"'{button}'"))
    html = looked_at(site)
    weights = {"weights": {"student": 0.125, "base": 0.02}} if button == "weights" else {}
    expected = {"action": button, "who": "ada", "why": "a try", "version": 1, **weights}
    assert site.sent == [{"token": "the token", "type": "application/json", **expected}]
    assert site.asked.count("/ab") >= 2
    assert ">Done.</div>" in html
    assert ">ada</td>" in html
    assert "the token" not in html.replace(PRESS.replace("BUTTON", f"'{button}'"), "")


def test_a_hostile_text_runs_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, HOSTILE.replace("alert(1)", 'document.title = "taken"').replace("alert(2)", "this.id=9"), "")
    html = looked_at(site)
    assert "<title>s2a-geonames" in html
    assert "&lt;script&gt;document.title" in html
    assert set(site.asked) <= {"/ab", "/favicon.ico"}


def test_the_policy_stops_a_script_that_got_into_the_page(tmp_path: Path) -> None:
    """Were something not escaped: no script, handler, style or picture of it comes through."""
    site = Site(tmp_path, "", "")
    intruder = '<script>document.title = "taken"</script><img src="/picture" onerror="document.title = \'taken\'">'
    page = site.page
    site.page = lambda: page().replace("<main>", f"<main>{intruder}")  # type: ignore[method-assign]
    html = looked_at(site)
    assert intruder[:8] in html
    assert "<title>s2a-geonames" in html
    assert "/picture" not in site.asked
