"""Atomic replacement of files, and readable errors of the file system."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def atomic_write(files: Mapping[Path, bytes], *, synced: bool = False) -> None:
    """Write all files under temporary names, then rename them into place.

    If the disk fills up or the process ends while writing, the old files stay.

    Args:
        synced: flush to the disk before renaming, which also covers a crash of the machine

    Raises:
        OSError: with the name of the file
    """
    parts = {path: path.with_name(f"{path.name}.part") for path in files}
    try:
        for path, data in files.items():
            with add_filename(path), _created(parts[path]) as file:
                file.write(data)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        for path, part in parts.items():
            with add_filename(path):
                part.replace(path)
    except OSError:
        for part in parts.values():
            if part.is_file():
                part.unlink()
        raise


def _created(part: Path) -> BinaryIO:
    """Create or truncate a file for writing, and refuse a link under its name (`OSError`)."""
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    file = os.fdopen(descriptor, "wb")
    if os.fstat(descriptor).st_nlink > 1:
        file.close()
        raise FileExistsError(errno.EEXIST, "has a second hard link; remove it", str(part))
    file.truncate(0)
    return file


@contextmanager
def add_filename(path: Path) -> Iterator[None]:
    """Add a file's name to errors raised within; the system adds it when opening a file, but not for a full disk."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc


def describe_oserror(error: OSError) -> str:
    """Return an error as one line: the file and the reason."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"
