"""The section of a recipe that serving reads: arms, limits, access and the experiment.

The teacher is System 2, a method on the base model; the student is the model distilled from its answers.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from s2d_ray.recipes.strict import Named, Strict

RENAMED_ARMS: Mapping[str, str] = {"system1": "student", "system2": "teacher"}
"""Arm of older versions → what it is called now."""


class Weights(Strict):
    """Shares of the experiment's users by arm. The teacher answers the rest."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"system1": "student"}

    student: float = Field(0.5, ge=0, le=1)
    """Answered by the distilled model."""
    base: float = Field(0.0, ge=0, le=1)
    """Answered by the model as it was before, asked plainly."""

    @property
    def teacher(self) -> float:
        """Answered by System 2."""
        return round(max(0.0, 1 - self.student - self.base), 12)

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if self.student + self.base > 1 + 1e-9:
            raise ValueError(f"student {self.student:g} and base {self.base:g} add up to more than 1")
        return self


class RampStep(Strict):
    """A while in which the student gets less than its weight."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"system1": "student"}

    student: float = Field(ge=0, le=1)
    """Share of the users that the student answers meanwhile; those that it lacks go to the teacher."""
    hours: float = Field(gt=0)
    """How long, in hours."""


class Guardrails(Strict):
    """Limits that no arm may pass in the experiment: past one, every user goes back to the teacher at once.

    To be past one takes 20 bad requests in a row, or more with good ones between them, so that a share within the
    limit gives a false alarm once in a million requests at most. `/ab` says how many at the limit that is set. Of one
    user five count at most, and of one client ten while others ask as well.
    """

    error_rate: float | None = Field(0.05, gt=0, lt=0.5)
    """Share of an arm's requests that may fail; `null` does not look. At 0.05 it takes about 630 requests where 10%
    fail and 44 where half do; at 0.01, 3300 where 2% fail."""
    p95_seconds: float | None = Field(30.0, gt=0)
    """Seconds that at most one in twenty of an arm's requests may take longer than; `null` does not look. It takes
    about 630 requests where 10% are slower and 44 where half are."""


class Cascade(Strict):
    """The student answers, and what it is not confident about goes on to the teacher."""

    target: float = Field(0.95, gt=0, lt=1)
    """Share of all answers that are to be the teacher's or agree with it; sets the threshold, at evaluation."""
    confidence: Literal["logprob", "votes"] = "logprob"
    """Mean log-probability of the student's tokens, or the share of its `samples` that give the same answer."""
    samples: int = Field(3, ge=2)
    """Answers of the student to each request, for `votes`."""


class ServedArm(Strict):
    """What one arm may take. Past its limits a request is refused with the time to try again."""

    concurrent_requests: int = Field(64, ge=1)
    """Requests that one copy of its model answers at once."""
    queued_requests: int = Field(128, ge=0)
    """Requests that wait at most; further ones are refused."""
    deadline_seconds: float = Field(60.0, gt=0)
    """Seconds until a request is given up, waiting included."""


class ScaledArm(ServedArm):
    """An arm with copies of its model. The base model is the teacher's."""

    min_replicas: int = Field(1, ge=0)
    """Copies of the model kept when nobody asks."""
    max_replicas: int = Field(1, ge=1)
    """Copies at most; Ray Serve scales between the two with the requests in flight."""
    scale_down_seconds: float = Field(600.0, ge=0)
    """For which fewer copies must have been enough before one is taken away."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


class Prices(Strict):
    """What tokens cost, in a currency of your own."""

    prompt: float = Field(ge=0)
    """For a million prompt tokens."""
    completion: float = Field(ge=0)
    """For a million generated tokens."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is the machine's own, which no other machine reaches."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


EnvironmentVariable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Serve(Strict):
    """A finished run behind one OpenAI-compatible address, and the experiment of the student against the teacher."""

    renamed_keys: ClassVar[Mapping[str, str]] = RENAMED_ARMS

    host: str = "127.0.0.1"
    """Address to listen at. One that other machines reach needs `admin_token_env`."""
    port: int = Field(8000, ge=1, le=65535)
    """Port to listen at."""
    certificate: str | None = None
    """File with the chain of certificates, in PEM, for HTTPS; unset serves HTTP. On a cluster its ingress has it."""
    key: str | None = None
    """File with the certificate's key, in PEM, without a passphrase."""
    api_keys_env: EnvironmentVariable | None = None
    """Environment variable with the keys for asking the model, separated by commas; unset lets everyone ask."""
    admin_token_env: EnvironmentVariable | None = None
    """Environment variable with the token for changing the experiment; unset lets everyone on this machine."""
    tell_arms: bool = False
    """Tell every client that asks for it (`s2d: {trace: true}`) which arm answered, and by which steps. Unset: only who
    may change the experiment."""
    trust_clients: bool = False
    """Clients are applications of your own, which say truly who their users are: then every user has one say in the
    ratings. Unset: every client has one, by its key or, without keys, by its address, whatever users it names."""
    weights: Weights = Weights()
    """The experiment's arms. Changed while it runs, the change stays until this entry changes."""
    ramp: tuple[RampStep, ...] = ()
    """Smaller shares for the student first, in order, before `weights` hold."""
    salt: str = "s2d"
    """Users are assigned by a hash of this and their name; another salt is another experiment. One of your own, kept to
    yourself, where clients shall not work out their arm."""
    margin: float = Field(0.05, gt=0, lt=1)
    """How much lower the student's mean rating (0 to 1) may be and still replace the teacher. `/ab` says so only while
    users are assigned as planned and both arms are rated equally often."""
    feedback_hours: float = Field(24.0, gt=0)
    """Hours after a request in which its answer may be rated, once."""
    guardrails: Guardrails = Guardrails()
    shadow_share: float = Field(0.0, ge=0, le=1)
    """Share of requests that the other arm is asked too, in the background, to compare."""
    shadow_concurrent: int = Field(4, ge=1)
    """Such requests in the background at most; more are left out."""
    shadow_judge: Named | None = None
    """Method by which the base model judges the pairs that the task finds different: `direct`, `cot` or `bsm`. A pair
    agrees where the student's answer is not worse in both orders. Unset: only answers that are the same agree."""
    cascade: Cascade | None = None
    """Unset: the student answers all that it is asked."""
    student: ScaledArm = ScaledArm()
    teacher: ScaledArm = ScaledArm(concurrent_requests=32)
    base: ServedArm = ServedArm()
    shared_engine: bool | None = None
    """One engine for both models: the base model, and its weights with the adapter for the student (vLLM's LoRA).
    Unset: where there is a GPU and the training left an adapter. On CPU an adapter takes five times as long."""
    gateways: int = Field(1, ge=1)
    """Copies of what takes in the requests, each with its share of every arm's limits."""
    max_body_kib: int = Field(256, ge=1)
    """Size of a request at most, in KiB."""
    max_tokens: int = Field(512, ge=1)
    """Generated tokens that a request may ask for at most, in one call."""
    store_text: bool = False
    """Keep prompts and answers beside the figures of each request."""
    flush_seconds: float = Field(300.0, gt=0)
    """Seconds between two Parquet parts of the stored events. A process that is killed loses none before, and the page
    shows all at once. With results in object storage the page shows those of other machines from then on, and a
    machine that is lost loses what it had not yet put there."""
    prices: Prices | None = None
    """Unset: no cost is worked out."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches `host`."""
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.loopback and self.admin_token_env is None:
            raise ValueError(
                f"host {self.host} is reached by other machines: set admin_token_env to the name of an environment "
                "variable that holds a token"
            )
        return self

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: set both or none")
        return self

    @model_validator(mode="after")
    def _rising(self) -> Self:
        shares = [*(step.student for step in self.ramp), self.weights.student]
        if shares != sorted(shares):
            way = " → ".join(f"{share:g}" for share in shares)
            raise ValueError(f"the ramp must rise step by step up to weights.student, not go {way}")
        return self
