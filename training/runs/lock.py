"""The lock of a folder: one process at a time works in it. The system's own, so that one that is killed leaves none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from training.errors import FolderInUse, InvalidArguments

LOCK = ".lock"
"""The file in the folder; it stays there."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder, which is made if it is missing.

    Raises:
        FolderInUse: another one is in it
        InvalidArguments: it cannot be made
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidArguments(f"cannot make the folder {folder}: {exc.strerror}") from exc
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise FolderInUse(
            f"another process works in {folder}; wait until it has ended, or name another folder"
        ) from exc
    try:
        yield
    finally:
        lock.release()
