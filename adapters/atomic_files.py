"""Atomic replacement of files, and readable errors of the file system."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


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
            with add_filename(path), parts[path].open("wb") as file:
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
