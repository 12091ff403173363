"""Errors that are meant for a person, their own and a disk's: a line that says what is wrong and what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the disk quota is used up"}
NO_ERRNO = re.compile(r"No space left on device|Disk quota exceeded|local disk's utilization is over capacity")
"""How a full disk is told of in the texts of libraries that pass no number on."""
IN_A_TRACEBACK = re.compile(r"^(?:\w+\.)*\w*Error: \[Errno (\d+)\] (.+?)(?:: '([^'\n]+)')?$", re.MULTILINE)
"""Ray passes some errors on as the text of their traceback alone."""


class UserError(Exception):
    """Something the user can mend; the command prints it without a traceback and exits with 1."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block says which file it is about, as one of what is written to an open file does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # Else its text would not be shown any more.
            error.filename = error.filename or str(path)
        raise


def in_one_line(error: BaseException) -> str | None:
    """What a person is told of an error of theirs, of a disk or of a storage, whatever wraps it; None of a bug."""
    root = _unwrapped(error)
    if isinstance(root, UserError):
        return _joined(str(root))
    if (full := disk_full(error)) is not None:
        return full
    of_storage = (e for each in _behind(error) for e in _of_disks(each) if "://" in str(e.filename))
    found = root if isinstance(root, OSError) else next(of_storage, None)
    if found is None:
        return None
    return _joined(f"{found.filename}: {found.strerror}" if found.filename else str(found))


def disk_full(error: BaseException) -> str | None:
    """What a person is told where a disk that is full, or a used up quota, is behind an error; None where it is not."""
    chain = list(_behind(error))
    found = [e for each in chain for e in _of_disks(each) if e.errno in FULL]
    found.sort(key=lambda e: e.filename is None)
    if not found and not any(NO_ERRNO.search(str(each)) for each in chain):
        return None
    what = FULL[found[0].errno or 0] if found else FULL[errno.ENOSPC]
    where = f"in {Path(found[0].filename).parent}" if found and found[0].filename else "on a disk (`df -h` shows which)"
    return f"{what} {where}: make room there; the same command then goes on where it stopped"


def _unwrapped(error: BaseException) -> BaseException:
    """The error that Ray carried here from another process."""
    while inner := [*_inside(error)]:
        error = inner[0]
    return error


def _inside(error: BaseException) -> Iterator[BaseException]:
    """What Ray's errors wrap: those of tasks, of training workers, and of what controls these."""
    failures = getattr(error, "worker_failures", {}).values()
    for each in (getattr(error, "cause", None), *failures, getattr(error, "controller_failure", None)):
        if isinstance(each, BaseException):
            yield each


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it wraps or came of."""
    seen, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            grouped = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
            others = each.__cause__, each.__context__, *grouped
            waiting += [*_inside(each), *(other for other in others if other is not None)]


def _of_disks(error: BaseException) -> Iterator[OSError]:
    """The errors of files that this one is, or that stand in it as text."""
    if isinstance(error, OSError) and error.errno is not None:
        yield error
    if type(error).__module__.startswith("ray."):
        for number, text, name in IN_A_TRACEBACK.findall(str(error)):
            yield OSError(int(number), text, name or None)


def _joined(text: str) -> str:
    return " ".join(text.split())
