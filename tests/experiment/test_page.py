"""The page says what is known, escapes all that comes from outside, and asks nothing of other servers."""

import re
from collections.abc import Mapping
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from s2d_ray.arms import CoreArm
from s2d_ray.experiment.experiment import Experiment
from s2d_ray.experiment.page import ab_page, content_security_policy
from s2d_ray.experiment.recommendation import recommend
from s2d_ray.experiment.state import Change
from s2d_ray.experiment.store import EventStore
from s2d_ray.experiment.summary import summarise
from s2d_ray.recipes.load import load_single_recipe
from s2d_ray.recipes.recipe import Recipe
from s2d_ray.recipes.serve import Guardrails, Prices, RampStep, Serve, Weights
from tests.experiment.traffic import BEHAVIOURS, NO_FAULTS, START, Behaviour, Faults, counted, fill

NOW = START + timedelta(hours=60)
SERVE = Serve(weights=Weights(student=0.5))
HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>"'--></style></div>{{ 7 * 7 }}"""
NONCE = "bm9uY2U"
BETTER: Mapping[CoreArm, Behaviour] = {**BEHAVIOURS, "student": Behaviour(0.97, 0.2, 3)}
"""So good that the ratings alone would promote the student."""


def page(
    folder: Path,
    serve: Serve = SERVE,
    count: int = 0,
    behaviours: Mapping[CoreArm, Behaviour] = BEHAVIOURS,
    text: str = "",
    change: Change | None = None,
    guardrail: str = "",
    faults: Faults = NO_FAULTS,
) -> str:
    experiment = Experiment(folder / "experiment.json", serve, START)
    if change:
        experiment.apply(change, NOW)
    if guardrail:
        experiment.roll_back("guardrail", guardrail, NOW)
    fill(EventStore(folder), count, serve.weights, behaviours, faults)
    summary = summarise(counted(folder, experiment.state), experiment.state, serve, NOW)
    rolled_back = experiment.state.status == "rolled back"
    recommendation = recommend(summary.difference, serve.margin, summary.failed_checks, rolled_back)
    return ab_page(recipe(serve, text), experiment.state, summary, recommendation, NOW, NONCE)


def recipe(serve: Serve, text: str) -> Recipe:
    loaded = load_single_recipe("s2a-geonames")
    names = {"description": text, "model": text} if text else {}
    return loaded.model_copy(update={"serve": serve, **names})


def words(html: str) -> str:
    """What a person reads."""
    body = html[html.index("<body>") : html.index("<script nonce")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


class Elements(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quality", "heading", "tone"),
    [(0.87, "Promote Distilled System 1", "good"), (0.6, "Keep System 2", "bad"), (0.82, "Keep testing", "mixed")],
)
def test_the_recommendation_stands_first_with_its_reason(
    tmp_path: Path, quality: float, heading: str, tone: str
) -> None:
    html = page(tmp_path, count=12_000, behaviours={**BEHAVIOURS, "student": Behaviour(quality, 0.2, 3)})
    assert f'<section class="card verdict {tone}">\n<strong>{heading}</strong>' in html
    assert "ratings can tell." in words(html)
    assert html.count("<polygon") == 3


def test_figures_of_both_arms_are_there(tmp_path: Path) -> None:
    said = words(page(tmp_path, Serve(weights=Weights(student=0.5), prices=Prices(prompt=1, completion=1)), 12_000))
    for figure in (
        "System 2: 2.9",
        " as long",
        " as many",
        "12 000",
        "Cost of 1000",
        "Distilled System 1 50%",
    ):
        assert figure in said
    assert "(base)" not in said.split("Latest changes")[0]


def test_before_any_request_it_says_what_is_missing(tmp_path: Path) -> None:
    html = page(tmp_path)
    said = words(html)
    assert "Keep testing Too few ratings" in said
    assert "No arm has enough ratings yet. They come in through /ab/feedback ." in said
    assert "<polygon" not in html


def test_a_few_requests_give_no_more_than_they_can(tmp_path: Path) -> None:
    said = words(page(tmp_path, count=30))
    assert "too few to tell" in said
    assert "not enough ratings yet" in said


def test_a_roll_back_says_why_and_who(tmp_path: Path) -> None:
    said = words(page(tmp_path, count=500, guardrail="System 1: 20 of 20 requests failed"))
    assert "Rolled back: System 2 answers everyone System 1: 20 of 20 requests failed (guardrail, 2026-11-22" in said
    assert "System 2 100%" in said


def test_ramp_and_guardrails_are_explained(tmp_path: Path) -> None:
    ramp = (RampStep(student=0.01, hours=2), RampStep(student=0.1, hours=24))
    serve = Serve(ramp=ramp, guardrails=Guardrails(error_rate=0.02, p95_seconds=None))
    said = words(page(tmp_path, serve))
    assert "On the ramp: 1% for 2 h, 10% for 24 h, then 50% for Distilled System 1." in said
    assert (
        "once an arm fails more than 2% of its requests. It takes 20 that fail in a row, or on average about 1" in said
    )
    assert "600 requests where 4% fail, 42 requests where 50% fail." in said


def test_what_each_guardrail_takes_is_said_in_requests(tmp_path: Path) -> None:
    said = words(page(tmp_path))
    assert (
        "20 that fail in a row, or on average about 630 requests where 10% fail, 44 requests where 50% fail; or" in said
    )
    assert (
        "20 that are that slow in a row, or on average about 630 requests where 10% are that slow, 44 requests" in said
    )


def test_checks_that_pass_are_said_with_their_figures(tmp_path: Path) -> None:
    said = words(page(tmp_path, count=3000))
    assert "Users are assigned as planned Of " in said
    assert "(50.0% planned)" in said
    assert "Both arms are rated equally often" in said
    assert re.search(r"% of System 2's: 0\.\d+ to 1\.\d+ times as often\. Up to 1\.1 times, either way, does not", said)
    assert "not assigned as planned" not in said
    assert "not rated equally often" not in said


def test_checks_that_fail_are_warnings_and_nothing_is_promoted(tmp_path: Path) -> None:
    html = page(tmp_path, count=12_000, behaviours=BETTER, faults=Faults(lost=0.3, unrated=0.4))
    said = words(html)
    assert html.count('<section class="card verdict bad">') == 2
    assert "Keep testing Since users are not assigned as planned and the arms are not rated equally often, it" in said
    assert "Users are not assigned as planned Of " in said
    assert "The arms are not rated equally often 3" in said
    assert re.search(r"% of System 2's: 1\.\d+ to \d\.\d+ times as often\.", said)
    assert said.count("away, which begins a new experiment.") == 2
    assert "Whether the arms can be compared" not in said


def test_all_that_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    change = Change(action="stop", who=HOSTILE, why=HOSTILE, version=1)
    html = page(tmp_path, count=30, text=HOSTILE, change=change, guardrail=HOSTILE)
    assert "<script>" not in html
    assert "<img" not in html
    assert "49" not in words(html).replace("2026", "")
    assert html.count("&lt;script&gt;") >= 5
    plain = Elements(
        page(tmp_path / "plain", count=30, change=change.model_copy(update={"who": "ada", "why": "a"}), guardrail="b")
    )
    assert [tag for tag, _ in Elements(html).found] == [tag for tag, _ in plain.found]


def test_nothing_is_asked_of_other_servers_and_nothing_runs_without_the_nonce(tmp_path: Path) -> None:
    html = page(tmp_path, count=3000)
    for tag, attributes in Elements(html).found:
        assert not {"src", "href", "style", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        if tag in ("script", "style"):
            assert attributes == {"nonce": NONCE}
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_policy_allows_what_bears_the_nonce_and_the_server_itself() -> None:
    policy = dict(rule.strip().split(" ", 1) for rule in content_security_policy(NONCE).split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == f"'nonce-{NONCE}'"
    assert policy["connect-src"] == "'self'"


def test_the_token_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    token = [a for tag, a in Elements(page(tmp_path, Serve(admin_token_env="TOKEN"))).found if a.get("name") == "token"]
    assert "required" in token[0]
    assert "value" not in token[0]
    without = [a for tag, a in Elements(page(tmp_path)).found if a.get("name") == "token"]
    assert "required" not in without[0]
