"""Files and folders that are elsewhere, on this machine: fetched once, for all processes here.

Copies from object storage lie in `$S2D_CACHE/copies`, up to S2D_CACHE_GIB, or as far as the disk has room. A process
that asked for one keeps it there until it ends; of the others, the least recently used go where a new one would not
fit. Models from the hub lie in the hub's own cache, which is the user's.
"""

import fcntl
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from s2d_ray.data.hub import HubPath
from s2d_ray.data.storage import RemotePath, alone, cache_dir
from s2d_ray.data.syncing import sync_tree
from s2d_ray.errors import UserError

if TYPE_CHECKING:
    from obstore import ObjectMeta

GIB = 2**30
RESERVE = 2 * GIB
"""Bytes of the disk that copies leave free, for logs and for what is compiled."""
PARTIAL = ".partial"

_used: dict[Path, int] = {}
"""Copy → its lock file, open and shared while this process lives."""
_using = Lock()


def local_copy(path: Path, weights: bool = True) -> Path:
    """The same file or folder on this machine: the path itself, or a copy that all processes here share.

    It stays while this process lives, or until `release`. Where the original has changed it is another copy. Without
    `weights` those of a model on the hub may be missing.
    Raises UserError where there is no room for it or the hub does not give it, and OSError where a file's name has a
    part that is empty or `..`, which might lead out of the folder.
    """
    if isinstance(path, HubPath):
        return path.fetched(weights)
    if not isinstance(path, RemotePath):
        return path
    files = [path.metadata()] if path.is_file() else path.files()
    state = "\n".join(sorted(f"{f['path']} {f['size']} {f['last_modified']} {f['e_tag']}" for f in files))
    address = _digest(str(path))
    copy = cache_dir() / "copies" / f"{address}.{_digest(state)}"
    if not _use(copy):
        # One at a time: what another one takes is not room for this one.
        with alone(copy.parent / "fetch.lock"):
            if not _use(copy):
                _fetch(path, files, copy)
                _use(copy)
    return copy / path.name


def release(path: Path) -> None:
    """This process needs the copy that `local_copy` gave no more: it may be removed where there is no room."""
    with _using:
        if (lock := _used.pop(path.parent, None)) is not None:
            os.close(lock)


def _use(copy: Path) -> bool:
    """Keep a copy from being removed while this process lives; False where there is none."""
    with _using:
        if copy not in _used:
            copy.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(_lock_file(copy), os.O_RDWR | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not copy.is_dir():
                os.close(lock)
                return False
            _used[copy] = lock
        os.utime(_used[copy])
        return True


def _lock_file(copy: Path) -> Path:
    """Never removed, since another process may be about to lock it; its time is when the copy was last asked for."""
    return copy.with_name(f"{copy.name}.lock")


def _fetch(path: RemotePath, files: "Sequence[ObjectMeta]", copy: Path) -> None:
    for other in copy.parent.glob(f"*{PARTIAL}"):
        shutil.rmtree(other)  # Of a process that has died: no other fetches now.
    for before in copy.parent.glob(f"{copy.name.partition('.')[0]}.*/"):
        _remove_unused(before)
    _make_room(path, sum(file["size"] for file in files), copy.parent)
    partial = _partial(copy)
    # A folder in which there is nothing is an empty one.
    (partial if files else partial / path.name).mkdir(parents=True)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda file: _fetch_file(path, file, partial), files))
        sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial)  # On a disk that it has filled, nothing else would work.
        raise
    partial.rename(copy)


def _fetch_file(folder: RemotePath, file: "ObjectMeta", target: Path) -> None:
    """Copy a file, which is `folder` itself or in it, to where it is then in `target`."""
    path = RemotePath(*folder.parts[:2], file["path"])
    copy = target / path.relative_to(folder.parent)
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.fetch(copy)
    except FileNotFoundError:
        if file["size"]:
            raise  # Else an empty object that stands for a folder.


def _make_room(path: RemotePath, size: int, copies: Path) -> None:
    """Remove unused copies, the least recently used first, until `size` bytes fit. Raises UserError if none is left."""
    unused = sorted((copy for copy in copies.iterdir() if copy.is_dir()), key=_last_used)
    while (room := _room(copies)) < size:
        if not unused:
            mend = "set S2D_CACHE to a folder on a larger disk" if _limit() is None else "raise S2D_CACHE_GIB"
            raise UserError(
                f"no room for a copy of {path}: it takes {size / GIB:.3g} GiB, and {max(0, room) / GIB:.3g} GiB are "
                f"left in {copies} beside what is in use: {mend} on this machine"
            )
        _remove_unused(unused.pop(0))


def _last_used(copy: Path) -> float:
    lock = _lock_file(copy)
    return lock.stat().st_mtime if lock.exists() else 0.0


def _remove_unused(copy: Path) -> None:
    with _lock_file(copy).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # Half of it must not be taken for the whole.
        copy.rename(_partial(copy))
        shutil.rmtree(_partial(copy))


def _partial(copy: Path) -> Path:
    return copy.with_name(copy.name + PARTIAL)


def _room(copies: Path) -> int:
    """Bytes that a new copy may take."""
    limit = _limit()
    if limit is not None:
        return limit - sum(file.stat().st_size for file in copies.rglob("*") if file.is_file())
    return shutil.disk_usage(copies).free - RESERVE


def _limit() -> int | None:
    """Bytes that all copies may take together; None for as many as the disk has."""
    said = os.environ.get("S2D_CACHE_GIB")
    try:
        return int(float(said) * GIB) if said else None
    except ValueError:
        raise UserError(f"S2D_CACHE_GIB is {said}, and not a number of GiB") from None


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=10).hexdigest()
