"""How many rows of a stage failed, and when that is too many to go on."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from s2d_ray.data.files import read_batches
from s2d_ray.data.records import kind_of
from s2d_ray.errors import UserError


@dataclass(frozen=True, slots=True)
class Failures:
    """Of rows with an `error`, which is empty where there is none."""

    rows: int = 0
    """All, those that did not fail included."""
    failed: int = 0
    first: str = ""
    """The first reason."""

    def __add__(self, other: "Failures") -> "Failures":
        return Failures(self.rows + other.rows, self.failed + other.failed, self.first or other.first)


def failures_in(folder: Path) -> Failures:
    """Of all rows of a folder's parts."""
    return sum((_of(batch["error"]) for batch in read_batches(folder, ["error"])), Failures())


def failures_by(folder: Path, column: str) -> dict[str, Failures]:
    """Each value of a column → the failures of its rows."""
    found: dict[str, Failures] = {}
    for batch in read_batches(folder, [column, "error"]):
        for value in pc.unique(batch[column]).to_pylist():
            own = _of(batch["error"].filter(pc.equal(batch[column], value)))
            found[value] = found.get(value, Failures()) + own
    return found


def _of(errors: object) -> Failures:
    reasons = errors.filter(pc.not_equal(errors, ""))  # type: ignore[attr-defined]
    return Failures(len(errors), len(reasons), reasons[0].as_py() if len(reasons) else "")  # type: ignore[arg-type]


def refuse(found: Failures, most: float, what: str, setting: str, folder: Path) -> None:
    """Raises UserError where more than the share `most` failed; `what` says of what, `setting` names the limit."""
    if not found.rows or found.failed / found.rows <= most:
        return
    error = UserError(
        f"{found.failed} of {found.rows} {what} failed, more than {setting} {most}; "
        f"the first reason: {kind_of(found.first)} (--debug shows it whole); the rows are in {folder}: mend what "
        "fails and pass --overwrite, or raise the setting"
    )
    error.add_note(f"the first reason: {found.first}")
    raise error
