"""What is on the disk, and not only on its way there: a machine that loses power keeps it."""

import errno
import os
from contextlib import suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """The names in a folder of this machine are on the disk; of the files themselves nothing is said."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # What a file system says that keeps a renaming without being asked, or cannot be asked.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """What is in a folder of this machine is on the disk, whoever wrote it, and its name above.

    Without what a leading `_` or `.` says is no result: others may be at work there.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        for name in names:
            with suppress(FileNotFoundError), open(os.path.join(where, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(where))
    sync_folder(folder.parent)
