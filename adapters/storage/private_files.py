"""Private files: created readable by their owner only, and closed if an older version left them open to others."""

import os
import stat
from contextlib import suppress
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_private(path: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists (`OSError`)."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))


def create_private_folder(path: Path) -> None:
    """Create a folder that only its owner can open, and the folders above it; one that exists stays as it is."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def close_to_others(path: Path) -> str | None:
    """Remove the permissions of all users but the owner from a file.

    Returns:
        the command for its owner if this process cannot change it; None if it is closed or missing
    """
    try:
        found = path.stat()
        if not hasattr(os, "geteuid") or not found.st_mode & _OTHERS:
            return None
        mode = stat.S_IMODE(found.st_mode) & ~_OTHERS
        if found.st_uid == os.geteuid():
            path.chmod(mode)
            return None
    except FileNotFoundError:
        return None
    except OSError:
        pass  # such as a read-only disk
    return f"chmod go= {path}"
