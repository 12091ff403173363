"""A server whose disk is full answers, says so on the experiment's page, and can be rolled back."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from s2d_ray.data.folders import RunFolders
from s2d_ray.experiment.controller import events_folder
from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.experiment.state import read_state
from s2d_ray.experiment.store import Snapshot
from tests.experiment.test_page import words
from tests.serving.gateways import ask, make_gateway, served_recipe, serving
from tests.small_disk import NEEDS_ROOT, fill, small_disk

REFUSED = {"error": "what is stored cannot be reached: No space left on device", "status": 503}
TRACE: dict[str, Any] = {"s2d": {"trace": True}}


def post(address: str, path: str, **body: object) -> dict[str, object]:
    headers = {"content-type": "application/json", ADMIN_HEADER: "yes"}
    request = Request(address + path, json.dumps(body).encode(), headers)
    try:
        with urlopen(request, timeout=30) as answer:
            found: dict[str, object] = json.loads(answer.read())
            return found
    except HTTPError as error:
        return {"error": json.loads(error.read())["error"]["message"], "status": error.code}


@NEEDS_ROOT
def test_it_answers_says_what_is_lost_and_is_rolled_back(tmp_path: Path) -> None:
    recipe, roll_back = served_recipe(), {"action": "roll back", "who": "ada", "why": "a try", "version": 1}
    with small_disk(tmp_path / "disk", 256) as disk, serving(make_gateway(recipe, disk), recipe) as address:
        first = ask(address)
        filler = fill(disk)
        answers = [ask(address, extra_body=TRACE) for _ in range(20)]
        assert [answer.s2d["arm"] for answer in answers] == ["student"] * 20
        # What is left of the last page may still take one or two.
        rated = [post(address, "/ab/feedback", request_id=answer.id, score=1) for answer in answers]
        assert rated[-1] == REFUSED
        assert post(address, "/ab/change", **roll_back | {"action": "stop"}) == REFUSED
        assert post(address, "/ab/change", **roll_back) == {"version": 2, "status": "rolled back"}
        assert ask(address, extra_body=TRACE).s2d["arm"] == "teacher"
        deadline = time.monotonic() + 30
        while "Events are not being stored: No space left on device" not in (page := shown(address)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "This is in force and not stored yet" in page
        filler.unlink()
        after = ask(address)
        stored = Snapshot(events_folder(RunFolders(disk))).requests.to_table()["request_id"].to_pylist()
        assert {first.id, after.id} <= set(stored) and len(stored) < 23
        while read_state(disk / "serving" / "experiment.json").status != "rolled back":
            assert time.monotonic() < deadline + 30
            time.sleep(0.2)
        assert post(address, "/ab/feedback", request_id=after.id, score=1) == {"status": "stored"}


def shown(address: str) -> str:
    with urlopen(f"{address}/ab", timeout=60) as answer:
        return words(answer.read().decode())
