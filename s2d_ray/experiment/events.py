"""What is kept of every request, its feedback and its shadow: the rows of the experiment's store.

No user is named: a row has the cluster that its user is counted in. Text is kept only where the recipe says so.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import Field, model_validator

from s2d_ray.arms import CoreArm
from s2d_ray.recipes.serve import Prices
from s2d_ray.recipes.strict import Strict


class Lost(NamedTuple):
    """Events that could not be stored."""

    events: int
    why: str
    """Of the last one."""


NOTHING_LOST = Lost(0, "")
Outcome = Literal["answered", "failed", "refused", "cancelled"]
"""`refused`: over a limit, or past its deadline in the queue. `cancelled`: the client went away."""


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """One request that has ended."""

    request_id: str
    """As the client got it, and as feedback names it; unique."""
    time: float
    """When it came in, in seconds since 1970."""
    arm: CoreArm
    """That the user was assigned to or asked for, also where the answer was escalated to the teacher."""
    version: int | None
    """Of the experiment's state that assigned the user; None where the client asked for the arm by name."""
    cluster: int
    """Of its user; see `UserHash`."""
    outcome: Outcome
    seconds: float
    """From the request to its end, waiting included."""
    error: str = ""
    """Why there is no answer."""
    first_token_seconds: float | None = None
    """From the request to the first text of the answer; None where it was not streamed."""
    prompt_tokens: int = 0
    """Read in all calls."""
    completion_tokens: int = 0
    """Generated in all calls, intermediate ones and escalations included."""
    cost: float | None = None
    """In the currency of the recipe's prices; None without prices."""
    confidence: float | None = None
    """The student's, where there is a cascade."""
    escalated: bool = False
    """Whether the teacher had to answer in the student's place."""
    rater: int | None = None
    """Whose say a rating of it is, as a cluster: the client's, which may name many users. None where it is the user's;
    see `Serve.trust_clients`."""
    prompt: str | None = None
    """The conversation as JSON, only where text is kept."""
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """What a user thought of one answer; the first for a request counts."""

    request_id: str
    time: float
    score: float
    """0 to 1, the higher the better."""
    arm: CoreArm
    """Of the request, like the next two: so that a rating is counted without looking for its request."""
    version: int | None
    rater: int


@dataclass(frozen=True, slots=True)
class ShadowEvent:
    """What another arm would have answered, asked in the background."""

    request_id: str
    """Of the request that was answered."""
    time: float
    arm: CoreArm
    """That answered the user."""
    shadow: CoreArm
    """That was asked as well."""
    cluster: int
    agreement: float | None
    """0 to 1, how far the two answers agree; None where the shadow or the judge failed."""
    seconds: float
    """That the shadow took."""
    completion_tokens: int = 0
    """That the shadow generated."""
    error: str = ""


StoredEvent = RequestEvent | FeedbackEvent | ShadowEvent

_time = ("time", pa.timestamp("us", tz="UTC"))
REQUESTS = pa.schema(
    [
        ("request_id", pa.string()),
        _time,
        ("arm", pa.string()),
        ("version", pa.int32()),
        ("cluster", pa.int16()),
        ("outcome", pa.string()),
        ("seconds", pa.float32()),
        ("error", pa.string()),
        ("first_token_seconds", pa.float32()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("cost", pa.float64()),
        ("confidence", pa.float32()),
        ("escalated", pa.bool_()),
        ("rater", pa.int16()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
    ]
)
FEEDBACK = pa.schema(
    [
        ("request_id", pa.string()),
        _time,
        ("score", pa.float32()),
        ("arm", pa.string()),
        ("version", pa.int32()),
        ("rater", pa.int16()),
    ]
)
SHADOWS = pa.schema(
    [
        ("request_id", pa.string()),
        _time,
        ("arm", pa.string()),
        ("shadow", pa.string()),
        ("cluster", pa.int16()),
        ("agreement", pa.float32()),
        ("seconds", pa.float32()),
        ("completion_tokens", pa.int32()),
        ("error", pa.string()),
    ]
)


class Feedback(Strict):
    """What a client sends about an answer: a score, or which of two answers it prefers."""

    request_id: Annotated[str, Field(min_length=1, max_length=100)]
    score: float | None = Field(None, ge=0, le=1)
    """0 to 1, the higher the better."""
    preference: Literal["this", "other", "same"] | None = None
    """Between this answer and another that the user saw."""
    user: str | None = None
    """Who asked, where that was said in the request; a header cannot hold every name."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.score is None) == (self.preference is None):
            raise ValueError("say either score (0 to 1) or preference (this, other or same)")
        return self

    @property
    def rating(self) -> float:
        """The score; a preference is a score of 1, 0 or, for two equal answers, 0.5."""
        preferred = {"this": 1.0, "other": 0.0, "same": 0.5, None: self.score}[self.preference]
        assert preferred is not None
        return preferred


def cost(prices: Prices | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Of one request; None without prices."""
    if prices is None:
        return None
    return (prices.prompt * prompt_tokens + prices.completion * completion_tokens) / 1e6
