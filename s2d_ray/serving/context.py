"""One request on its way through a gateway."""

import time
from dataclasses import dataclass, field

from s2d_ray.arms import CoreArm
from s2d_ray.data.records import Prompt
from s2d_ray.recipes.sections import Sampling
from s2d_ray.serving.protocol import CompletionRequest


@dataclass
class RequestContext:
    """Who asked what, and which arm answers it how."""

    request: CompletionRequest
    prompt: Prompt
    sampling: Sampling
    seed: int
    arm: CoreArm
    version: int | None
    """Of the experiment's state that assigned the user; None where the client asked for the arm by name."""
    cluster: int
    """Of its user; see `UserHash`."""
    rater: int
    """As `RequestEvent.rater`."""
    request_id: str
    received: float = field(default_factory=time.time)
    """In seconds since 1970."""
    start: float = field(default_factory=time.monotonic)
    first_text: float | None = None
    """When the first text was there, on the clock of `start`."""

    @property
    def seconds(self) -> float:
        """Since the request came in."""
        return time.monotonic() - self.start

    @property
    def first_token_seconds(self) -> float | None:
        """From the request to its first text; None where it is not streamed."""
        return None if self.first_text is None else self.first_text - self.start

    def text_has_come(self) -> None:
        """Note the time, of the first text only."""
        self.first_text = self.first_text or time.monotonic()
