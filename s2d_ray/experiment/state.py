"""What an experiment is at a moment: the weights in force, every change so far, and the file that holds both."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from s2d_ray.data.files import read_json
from s2d_ray.errors import UserError
from s2d_ray.recipes.serve import RENAMED_ARMS, RampStep, Weights
from s2d_ray.recipes.strict import Strict, parse

Status = Literal["running", "stopped", "rolled back"]
Action = Literal["start", "ramp", "weights", "stop", "roll back"]
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
ALL_TO_TEACHER = Weights(student=0.0, base=0.0)


class WeightSchedule(Strict):
    """The weights that a recipe asks for, and the way there."""

    weights: Weights
    ramp: tuple[RampStep, ...]

    def after(self, passed: timedelta) -> Weights:
        """The weights that long after the ramp began."""
        left = passed
        for step in self.ramp:
            if left < timedelta(hours=step.hours):
                return Weights(student=step.student, base=self.weights.base)
            left -= timedelta(hours=step.hours)
        return self.weights

    def ended(self, passed: timedelta) -> bool:
        """Whether every step has had its hours by then."""
        return passed >= timedelta(hours=sum(step.hours for step in self.ramp))


class Revision(Strict):
    """One change of the experiment, as it was recorded."""

    version: int
    """1 for the start, one more with each change."""
    at: AwareDatetime
    who: str
    """The name given with the change; `recipe` or `guardrail` where it was none of a person."""
    action: Action
    why: str
    weights: Weights
    """In force from here on."""


class ExperimentState(Strict):
    """Everything about an experiment that a restart must not lose."""

    status: Status
    """`stopped`: the weights stay as they are. `rolled back`: the teacher answers everyone."""
    weights: Weights
    """In force now."""
    schedule: WeightSchedule
    """As the recipe had it when it last came into force."""
    ramp_from: AwareDatetime | None
    """When the ramp began; None once it has ended or a person or a guardrail took over."""
    revisions: tuple[Revision, ...] = Field(min_length=1)
    """Every change, the oldest first."""
    unstored: str = Field("", exclude=True)
    """Why the last of them is not in the file yet; empty where it is."""

    @property
    def version(self) -> int:
        """Of the latest change."""
        return self.revisions[-1].version

    @property
    def started(self) -> datetime:
        """When the experiment began."""
        return self.revisions[0].at


class Change(Strict):
    """What a person may do to the experiment: the body of a request."""

    action: Literal["weights", "stop", "roll back"]
    weights: Weights | None = None
    """The new ones, for `weights`."""
    who: ShortText
    why: ShortText
    version: int
    """Of the state that the person saw."""


def read_state(path: Path) -> ExperimentState:
    """The state in a file that an experiment wrote. Raises UserError where it is not one, or of an older version."""
    content = read_json(path)
    weights = content.get("weights") if isinstance(content, dict) else None
    if isinstance(weights, dict) and RENAMED_ARMS.keys() & weights.keys():
        raise older_experiment(path.parent)
    return parse(ExperimentState, content, where=str(path))


def older_experiment(folder: Path) -> UserError:
    """For an experiment whose arms have the names that they had before."""
    names = " and ".join(f"{new} (was {old})" for old, new in RENAMED_ARMS.items())
    return UserError(
        f"{folder} holds an experiment of an older version; its arms are now {names}: "
        "move that folder away and serve again, which begins a new experiment"
    )
