"""A file in object storage as one to read and seek in, whose every read is asked for again where it fails."""

import io
from typing import TYPE_CHECKING

from s2d_ray.data.buckets import reached

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from s2d_ray.data.storage import RemotePath

BUFFER = 2**16
"""Bytes that are asked for at least."""


class Ranges(io.RawIOBase):
    """The bytes of a file that is not changed meanwhile."""

    def __init__(self, path: "RemotePath") -> None:
        """Raises FileNotFoundError where there is none."""
        self._path, self._size, self._at = path, path.metadata()["size"], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: "Buffer") -> int:
        target = memoryview(buffer).cast("B")
        found = self._read(len(target))
        target[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        return self._read(self._size)

    def _read(self, most: int) -> bytes:
        path, first, end = self._path, self._at, min(self._at + most, self._size)
        if first >= end:
            return b""
        found = reached(path, lambda: path.store.get_range(path.name_in_bucket, start=first, end=end).to_bytes())
        self._at = end
        return found
