"""Files that are replaced whole, whatever ends the writing; and a file system's refusals in words."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def atomic_write(files: Mapping[Path, bytes], *, synced: bool = False) -> None:
    """Write all files under temporary names, then rename each to its own.

    If the disk fills up or the process ends before the first rename, the old files remain.

    Args:
        synced: flush to the disk first, so that this also holds if the machine fails

    Raises:
        OSError: with the name of the file
    """
    parts = {path: path.with_name(f"{path.name}.part") for path in files}
    try:
        for path, data in files.items():
            with named(path), parts[path].open("wb") as file:
                file.write(data)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        for path, part in parts.items():
            with named(path):
                part.replace(path)
    except OSError:
        for part in parts.values():
            if part.is_file():
                part.unlink()
        raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors in here name a file: the system's do when it is opened, and not when the disk is full."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc


def describe_oserror(refusal: OSError) -> str:
    """The file and what the system says of it, in a line."""
    said = refusal.strerror or " ".join(str(refusal).split()) or type(refusal).__name__
    return said if refusal.filename is None else f"{refusal.filename}: {said}"
