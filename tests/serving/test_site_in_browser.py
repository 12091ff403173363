"""A person at `/ab`: the real server in a real Chromium, with the buttons pressed as a user presses them."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from s2d_ray.data.files import read_json
from s2d_ray.experiment.store import EventStore
from s2d_ray.recipes.serve import Weights
from tests.experiment.traffic import fill
from tests.serving.gateways import make_gateway, served_recipe, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
TOKEN = "t" * 24
FILL = "(values) => { for (const name in values) document.querySelector(`[name=${name}]`).value = values[name]; }"


class Tab:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._sent = socket, 0

    async def ask(self, method: str, **parameters: object) -> Any:
        """A command of the browser's debugging protocol, and its result."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while (told := await self._socket.receive_json(timeout=60)).get("id") != self._sent:
            pass
        return told["result"]

    async def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript in the page."""
        told = await self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait for something to become true in the page."""
        deadline = time.monotonic() + 60
        while not await self.evaluate(expression):
            assert time.monotonic() < deadline, await self.evaluate("document.body.innerText")
            await asyncio.sleep(0.1)

    async def press(self, button: str, **fields: object) -> None:
        """Fill in the form and press a button."""
        await self.evaluate(f"({FILL})({json.dumps(fields)})")
        await self.evaluate(f"document.querySelector('button[value=\"{button}\"]').click()")


@asynccontextmanager
async def tab(profile: Path, address: str) -> AsyncIterator[Tab]:
    """The address, opened in a browser of its own."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--window-size=1200,1700"]
    browser = subprocess.Popen(
        [CHROMIUM, *options, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port.exists() or not port.read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        debugging = f"http://127.0.0.1:{port.read_text().split()[0]}"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{debugging}/json/list") as response:
                [page] = [target for target in await response.json() if target["type"] == "page"]
            async with http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Tab(socket)
                await opened.ask("Page.navigate", url=address)
                await opened.until("document.querySelector('form') !== null")
                yield opened
    finally:
        browser.terminate()
        browser.wait(30)


def test_a_person_changes_and_rolls_back_the_experiment(tmp_path: Path) -> None:
    serve = {"weights": {"student": 0.5}, "admin_token_env": "TOKEN"}
    recipe = served_recipe(name="trial", description=HOSTILE, serve=serve)
    state = tmp_path / "serving" / "experiment.json"

    async def person(address: str) -> None:
        async with tab(tmp_path / "profile", f"{address}/ab") as page:
            assert "Keep testing" in await page.evaluate("document.body.innerText")
            await page.press("weights", student="12.5", base="2", who="ada", why="a try", token="wrong" * 5)
            await page.until("document.getElementById('said').textContent === 'wrong admin token'")
            await page.press("weights", token=TOKEN)
            await page.until("document.body.innerText.includes('12.5%')")
            assert read_json(state)["weights"] == {"student": 0.125, "base": 0.02}
            await page.press("roll back", why=HOSTILE)
            await page.until("document.body.innerText.includes('Rolled back: System 2 answers everyone')")
            assert read_json(state)["status"] == "rolled back"
            assert await page.evaluate("document.title") == "trial · Distilled System 1 against System 2"
            shot = await page.ask("Page.captureScreenshot", captureBeyondViewport=True)
            (tmp_path / "ab.png").write_bytes(base64.b64decode(shot["data"]))

    gateway = make_gateway(recipe, tmp_path)
    fill(EventStore(tmp_path / "serving" / "events"), 3000, Weights(student=0.5))
    with serving(gateway, recipe, {"TOKEN": TOKEN}) as address:
        asyncio.run(person(address))
    assert [event["who"] for event in read_json(state)["revisions"]] == ["recipe", "ada", "ada"]
