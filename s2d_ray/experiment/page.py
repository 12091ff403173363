"""The page `/ab`: the experiment at a glance. Presentation only: no figure is worked out here.

Everything that comes from outside is escaped. The page asks nothing of other servers; its style and its few lines of
script carry the nonce of `content_security_policy`, and nothing else on it may run.
"""

from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from jinja2 import Environment

from s2d_ray.arms import LABELS, CoreArm
from s2d_ray.display import charts
from s2d_ray.display.formatting import count, significant
from s2d_ray.display.pages import environment
from s2d_ray.experiment.checks import TOLERANCE
from s2d_ray.experiment.guardrails import OF_ONE_USER, SLOW_SHARE, needs
from s2d_ray.experiment.recommendation import Recommendation
from s2d_ray.experiment.state import ExperimentState
from s2d_ray.experiment.summary import Summary
from s2d_ray.experiment.sums import EDGES
from s2d_ray.recipes.recipe import Recipe

ADMIN_HEADER = "x-s2d-admin"
"""Holds the admin token of a change; in lower case, as ASGI servers give it."""
TONES = {"promote": "good", "keep testing": "mixed", "keep System 2": "bad"}
HEADINGS = {"promote": f"Promote {LABELS['student']}", "keep testing": "Keep testing", "keep System 2": "Keep System 2"}
REVISIONS = 12
"""Changes shown, the latest ones."""
LASTING = timedelta(minutes=1)
"""After the last event that could not be stored, how long that is said to go on."""


class Unstored(NamedTuple):
    """Events that could not be stored since the controller started."""

    events: int
    why: str
    since: datetime
    until: datetime


def content_security_policy(nonce: str) -> str:
    """The header of that name to send with the page; a nonce is random and used once."""
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


def ab_page(
    recipe: Recipe,
    state: ExperimentState,
    summary: Summary,
    recommendation: Recommendation,
    now: datetime,
    nonce: str,
    unstored: Unstored | None = None,
) -> str:
    """The page as one HTML text that needs nothing else."""
    shown: list[CoreArm] = [arm for arm in LABELS if _takes_part(arm, state, summary)]
    start = state.started.timestamp()
    seconds = max(1.0, now.timestamp() - start)
    margin = recipe.serve.margin
    quality: dict[str, charts.Series] = {
        arm: [(p.at - start, p.quality[arm]) for p in summary.over_time if arm in p.quality] for arm in shown
    }
    differences = [(p.at - start, p.difference) for p in summary.over_time if p.difference]
    return (
        _environment()
        .get_template("experiment/ab.html.j2")
        .render(
            recipe=recipe,
            state=state,
            s=summary,
            recommendation=recommendation,
            heading=HEADINGS[recommendation.choice],
            tone=TONES[recommendation.choice],
            arms={arm: LABELS[arm] for arm in shown},
            weights=weights_of(state),
            needs=needs,
            slow_share=SLOW_SHARE,
            of_one_user=OF_ONE_USER,
            student=summary.arms["student"],
            teacher=summary.arms["teacher"],
            quality=charts.chart(quality, seconds, {}),
            difference=charts.chart({"difference": differences}, seconds, {"zero": 0.0, "margin": -margin}),
            revisions=list(reversed(state.revisions))[:REVISIONS],
            now=now,
            unstored=unstored,
            lasting=unstored is not None and now - unstored.until < LASTING,
            admin_header=ADMIN_HEADER,
            nonce=nonce,
        )
    )


def weights_of(state: ExperimentState) -> dict[CoreArm, float]:
    """The share of the users that each arm has now."""
    return {"base": state.weights.base, "teacher": state.weights.teacher, "student": state.weights.student}


def _takes_part(arm: CoreArm, state: ExperimentState, summary: Summary) -> bool:
    own = summary.arms[arm]
    return arm != "base" or weights_of(state)[arm] > 0 or own.requests + own.asked_by_name > 0


@cache
def _environment() -> Environment:
    found = environment()
    found.tests |= {"bounded": lambda interval: interval.high < EDGES[-1]}
    found.filters |= {"about": lambda number: count(float(f"{number:.2g}")), "significant": significant}
    found.globals["rating_tolerance"] = TOLERANCE
    return found
