"""A disk of its own that can lose power: what was on its way to it is gone, as on a real one."""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHUT_DOWN = 0x8004587D
"""The request by which ext4 and XFS play a loss of power; nothing is written from then on."""
WITHOUT_THE_JOURNAL = 2
"""What it takes: of the journal too, only what is on the disk already is found again."""
PATIENCE = 60.0
MIB = 2**20


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, image: Path, mounted: Path) -> None:
        self._image = image
        self.folder = mounted
        """Where it is mounted."""

    def power_off(self) -> None:
        """From now on nothing reaches the disk; what is done there fails. Whoever holds files has to end then."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUT_DOWN, struct.pack("I", WITHOUT_THE_JOURNAL))
        finally:
            os.close(folder)

    def power_on(self) -> None:
        """Mount it again, with what was on it."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def _unmount(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while (said := subprocess.run(["umount", self.folder], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, said.stderr
            time.sleep(0.1)


@contextmanager
def disk(folder: Path, size: int = 64 * MIB) -> Iterator[Disk]:
    """An empty disk; a test that asks for it is skipped where this machine does not let it have one."""
    image, mounted = folder / "disk.img", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    made = Disk(image, mounted)
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        made._mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk of its own can be mounted here: {error}")
    try:
        yield made
    finally:
        made._unmount()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
