"""The gateways' Prometheus metrics, through Ray, which exports them with its own."""

from ray.util.metrics import Counter, Gauge, Histogram

from s2d_ray.arms import CoreArm
from s2d_ray.experiment.events import RequestEvent

SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60]
"""Upper ends of the histograms' bins."""


class RayMetrics:
    """Of each arm. For Prometheus the names begin with `ray_s2d_`."""

    def __init__(self) -> None:
        by_arm = ("arm",)
        self._requests = Counter("s2d_requests", "Requests that have ended", ("arm", "outcome", "by_name"))
        self._seconds = Histogram("s2d_seconds", "Seconds to an answer", SECONDS, by_arm)
        self._first = Histogram("s2d_first_token_seconds", "Seconds to the first token of a stream", SECONDS, by_arm)
        self._tokens = Counter("s2d_tokens", "Tokens of answers, in all calls", ("arm", "kind"))
        self._escalated = Counter("s2d_escalated", "Answers that the teacher had to give in an arm's place", by_arm)
        self._answering = Gauge("s2d_answering", "Requests being answered", by_arm)
        self._waiting = Gauge("s2d_waiting", "Requests waiting for a slot", by_arm)
        self._weight = Gauge("s2d_weight", "Share of the users", by_arm)

    def ended(self, event: RequestEvent) -> None:
        """Count a request that has ended."""
        arm: dict[str, str] = {"arm": event.arm}
        by_name = "no" if event.version is not None else "yes"
        self._requests.inc(1, arm | {"outcome": event.outcome, "by_name": by_name})
        if event.outcome != "answered":
            return
        self._seconds.observe(event.seconds, arm)
        if event.first_token_seconds is not None:
            self._first.observe(event.first_token_seconds, arm)
        for kind, count in (("prompt", event.prompt_tokens), ("completion", event.completion_tokens)):
            if count:
                self._tokens.inc(count, arm | {"kind": kind})
        if event.escalated:
            self._escalated.inc(1, arm)

    def load(self, arm: CoreArm, answering: int, waiting: int, weight: float) -> None:
        """How busy an arm is on this gateway, and its share of the users."""
        self._answering.set(answering, {"arm": arm})
        self._waiting.set(waiting, {"arm": arm})
        self._weight.set(weight, {"arm": arm})
